#include "record.h"

#include <cstring>

#include "block_hash.h"
#include "frame.h"

namespace aoe::cas {

void FinishRecord(uint8_t* record, size_t count, size_t used) {
  RecordHeader* header = HeaderOf(record);
  header->entry_count = static_cast<uint32_t>(count);
  header->inline_length = 0;
  header->length = static_cast<uint32_t>(AlignUp(used, kRecordAlignment));
  std::memset(record + used, 0, header->length - used);
  SealRecord(record);
}

void SealRecord(uint8_t* record) {
  RecordHeader* header = HeaderOf(record);
  HashParts(HashDomain::kRecord, record, kChecksummedHeaderSize, EntriesOf(record),
            header->entry_count * sizeof(Entry) + header->inline_length, header->checksum);
}

RecordState CheckRecord(const uint8_t* record, size_t available, bool frames, size_t* damaged) {
  if (available < sizeof(RecordHeader)) return RecordState::kTorn;
  const RecordHeader* header = HeaderOf(record);
  if (header->magic != kRecordMagic || header->version != kFormatVersion) return RecordState::kTorn;
  if (header->entry_count > kEntriesMax) return RecordState::kTorn;
  const size_t described = header->entry_count * sizeof(Entry) + size_t{header->inline_length};
  const size_t needed = frames ? header->length : sizeof(RecordHeader) + described;
  if (sizeof(RecordHeader) + described > header->length || needed > available) {
    return RecordState::kTorn;
  }
  uint8_t checksum[kHashSize];
  HashParts(HashDomain::kRecord, record, kChecksummedHeaderSize, EntriesOf(record), described,
            checksum);
  if (!SameHash(checksum, header->checksum)) return RecordState::kTorn;
  if (!frames) return RecordState::kValid;
  for (size_t i = 0; i < header->entry_count; i++) {
    const Entry& entry = EntriesOf(record)[i];
    if (!HasFrame(entry.kind) || IsIntact(record, entry)) continue;
    *damaged = i;
    return RecordState::kDamagedFrame;
  }
  return RecordState::kValid;
}

bool IsIntact(const uint8_t* record, const Entry& entry) {
  const RecordHeader& header = *HeaderOf(record);
  const size_t start = FrameStart(header, entry);
  const size_t stored = PlaceStored(entry.place);
  if (start > header.length || stored > header.length - start) return false;
  uint8_t raw[kNodeSize];
  return RestoreFrame(record + start, stored, entry.kind, entry.hash, raw);
}

}  // namespace aoe::cas
