#include "entry_reader.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace aoe::cas {

void EntryReader::Remember(uint32_t segment, uint32_t record_offset, const uint8_t* record) {
  pending_.push_back({segment, record_offset, record});
}

void EntryReader::Forget(uint32_t segment, uint32_t record_offset) {
  std::erase_if(pending_, [&](const Pending& pending) {
    return pending.segment == segment && pending.record_offset == record_offset;
  });
}

int EntryReader::Read(const EntryAddress& address, bool may_block, Entry* entry) {
  const size_t in_record = sizeof(RecordHeader) + address.index * sizeof(Entry);
  for (const Pending& pending : pending_) {
    if (pending.segment != address.segment || pending.record_offset != address.record) continue;
    std::memcpy(entry, pending.record + in_record, sizeof(Entry));
    return 0;
  }
  const size_t offset = address.record * kRecordAlignment + in_record;
  const auto number = static_cast<uint32_t>(offset / kPageSize);
  auto& place = pages_[(address.segment * 0x9e3779b1u + number) % kPages];
  if (place == nullptr) place = std::make_unique<Page>();
  Page& page = *place;
  if (page.segment != address.segment || page.number != number) {
    const auto source = sources_.Get(address.segment);
    if (source == nullptr) return ENOENT;
    page.segment = 0;
    const int error = source->Read(page.bytes, kPageSize, number * kPageSize, may_block);
    if (error != 0) return error;
    page.segment = address.segment;
    page.number = number;
  }
  std::memcpy(entry, page.bytes + offset % kPageSize, sizeof(Entry));
  return 0;
}

}  // namespace aoe::cas
