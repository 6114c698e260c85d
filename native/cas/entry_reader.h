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

  // A page that is on the disk only. Without a source: none.
  struct Miss {
    std::shared_ptr<const SegmentSource> source;
    uint32_t segment = 0;
    uint32_t number = 0;
  };

  struct Page {
    static constexpr size_t kSize = 4096;
    uint32_t segment = 0;  // 0: empty; segments are numbered from 1
    uint32_t number = 0;
    uint8_t bytes[kSize];
  };

  // Returns 0, EAGAIN with a `miss` to be fetched and kept first, ENOENT when there is no such
  // segment, or another errno. Never waits for the disk.
  int Read(const EntryAddress& address, Entry* entry, Miss* miss);

  // Waits for the disk. Returns null when it fails. Thread-safe.
  static std::unique_ptr<Page> Fetch(const Miss& miss);
  void Keep(std::unique_ptr<Page> page);

 private:
  static constexpr size_t kPages = 2048;
  struct Pending {
    uint32_t segment;
    uint32_t record_offset;
    const uint8_t* record;
  };

  std::unique_ptr<Page>& PlaceOf(uint32_t segment, uint32_t number);

  const SegmentSources& sources_;
  std::vector<std::unique_ptr<Page>> pages_;  // made when first used
  std::vector<Pending> pending_;
};

}  // namespace aoe::cas
