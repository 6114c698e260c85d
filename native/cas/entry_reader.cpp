#include "entry_reader.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace aoe::cas {

void EntryReader::Remember(uint32_t segment, uint32_t record_offset, const uint8_t* record) {
  pending_.push_back({segment, record_offset, record});
}

void EntryReader::Forget(uint32_t segment, uint32_t record_offset) {
  std::erase_if(pending_, [&](const Pending& pending) {
    return pending.segment == segment && pending.record_offset == record_offset;
  });
}

int EntryReader::Read(const EntryAddress& address, Entry* entry, Miss* miss) {
  const size_t in_record = sizeof(RecordHeader) + address.index * sizeof(Entry);
  for (const Pending& pending : pending_) {
    if (pending.segment != address.segment || pending.record_offset != address.record) continue;
    std::memcpy(entry, pending.record + in_record, sizeof(Entry));
    return 0;
  }
  const size_t offset = address.record * kRecordAlignment + in_record;
  const auto number = static_cast<uint32_t>(offset / Page::kSize);
  auto& place = PlaceOf(address.segment, number);
  if (place == nullptr) place = std::make_unique<Page>();
  Page& page = *place;
  if (page.segment != address.segment || page.number != number) {
    auto source = sources_.Get(address.segment);
    if (source == nullptr) return ENOENT;
    page.segment = 0;
    const int error = source->Read(page.bytes, Page::kSize, size_t{number} * Page::kSize, false);
    if (error == EAGAIN) *miss = {std::move(source), address.segment, number};
    if (error != 0) return error;
    page.segment = address.segment;
    page.number = number;
  }
  std::memcpy(entry, page.bytes + offset % Page::kSize, sizeof(Entry));
  return 0;
}

std::unique_ptr<EntryReader::Page> EntryReader::Fetch(const Miss& miss) {
  auto page = std::make_unique<Page>();
  page->segment = miss.segment;
  page->number = miss.number;
  const size_t offset = size_t{miss.number} * Page::kSize;
  return miss.source->Read(page->bytes, Page::kSize, offset, true) == 0 ? std::move(page) : nullptr;
}

void EntryReader::Keep(std::unique_ptr<Page> page) {
  PlaceOf(page->segment, page->number) = std::move(page);
}

std::unique_ptr<EntryReader::Page>& EntryReader::PlaceOf(uint32_t segment, uint32_t number) {
  return pages_[(segment * 0x9e3779b1u + number) % kPages];
}

}  // namespace aoe::cas
