#include "record_layout.h"

#include <cstring>

#include "block_hash.h"
#include "record.h"

namespace aoe::cas {

void DescribeRows(const uint8_t* slab, const IngestRow* rows, size_t count, Entry* entries) {
  const uint8_t* inputs[2][kEntriesMax];
  size_t owners[2][kEntriesMax];
  size_t counts[2] = {0, 0};
  for (size_t i = 0; i < count; i++) {
    const IngestRow& row = rows[i];
    entries[i] = {.kind = row.kind,
                  .volume = row.volume,
                  .lba = uint64_t{row.lba_high} << 32 | row.lba_low,
                  .count = row.kind == EntryKind::kTrim ? row.count : 1};
    if (row.kind == EntryKind::kTrim) continue;
    const uint8_t* bytes = slab + row.memory;
    if (IsZero(bytes, kBlockSize)) {
      entries[i].kind = EntryKind::kZero;
      continue;
    }
    const size_t domain = row.kind == EntryKind::kNode ? 1 : 0;
    inputs[domain][counts[domain]] = bytes;
    owners[domain][counts[domain]++] = i;
  }
  uint8_t hashes[kEntriesMax * kHashSize];
  for (size_t domain = 0; domain < 2; domain++) {
    HashMany(static_cast<HashDomain>(domain), inputs[domain], counts[domain], hashes);
    for (size_t i = 0; i < counts[domain]; i++) {
      std::memcpy(entries[owners[domain][i]].hash, hashes + i * kHashSize, kHashSize);
    }
  }
}

size_t LayOutFrames(const uint8_t* slab, const IngestRow* rows, size_t count,
                    CompressionGates* gates, uint8_t* record, uint32_t* places) {
  const Entry* entries = EntriesOf(record);
  const size_t base = size_t{HeaderOf(record)->offset} * kRecordAlignment;
  size_t used = sizeof(RecordHeader) + count * sizeof(Entry);
  for (size_t i = 0; i < count; i++) {
    if (!HasFrame(entries[i].kind)) continue;
    const uint8_t* raw = slab + rows[i].memory;
    size_t stored = RawSize(entries[i].kind);
    if (gates != nullptr) {
      const bool is_node = entries[i].kind == EntryKind::kNode;
      stored = EncodeFrame(raw, stored, record + used, is_node ? &gates->nodes : &gates->blocks);
    } else {
      std::memcpy(record + used, raw, stored);
    }
    places[i] = PackPlace(base + used, stored);
    used += stored;
  }
  return used;
}

}  // namespace aoe::cas
