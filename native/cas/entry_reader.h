// Reads log entries by their address: from records that are not written out yet, from a cache
// of pages (a page holds 64 neighbouring entries), or from the segment.
// Not thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "dedup_index.h"
#include "format.h"
#include "segment_sources.h"

namespace aoe::cas {

class EntryReader {
 public:
  explicit EntryReader(const SegmentSources& sources) : sources_(sources), pages_(kPages) {}

  // Until Forget() the entries of this record are taken from `record`.
  void Remember(uint32_t segment, uint32_t record_offset, const uint8_t* record);
  void Forget(uint32_t segment, uint32_t record_offset);

  // Returns 0, EAGAIN when it would block and must not, ENOENT when there is no such segment, or
  // another errno.
  int Read(const EntryAddress& address, bool may_block, Entry* entry);

 private:
  static constexpr size_t kPages = 2048;
  static constexpr size_t kPageSize = 4096;

  struct Page {
    uint32_t segment = 0;  // 0: empty; segments are numbered from 1
    uint32_t number = 0;
    uint8_t bytes[kPageSize];
  };
  struct Pending {
    uint32_t segment;
    uint32_t record_offset;
    const uint8_t* record;
  };

  const SegmentSources& sources_;
  std::vector<std::unique_ptr<Page>> pages_;  // made when first used
  std::vector<Pending> pending_;
};

}  // namespace aoe::cas
