// Where frames are, as far as that is remembered within a limit, and which of them a collection has
// found alive.
//
// Invariants:
// 1. An address leads to an entry that is in a pending record or in an attached segment, or the
//    segment is gone and the address is ignored.
// 2. What is stored twice has its newest place in `index_` and the one before in `others_`: the
//    newest one may be damaged.
// 3. What is kept stays as long as its segment, however much that is: nothing but the index leads
//    there.
// 4. While marks are made nothing is forgotten, and what is remembered or relied on is marked.
//
// Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dedup_index.h"
#include "segment_sources.h"

namespace aoe::cas {

// Of what is stored twice: the newest one, or the one before.
enum class Copy { kNewest, kOther };

class FrameIndex {
 public:
  // Slots that are looked at before others have a turn: some tenths of a millisecond.
  static constexpr size_t kSlotsAtOnce = size_t{1} << 15;

  FrameIndex(const SegmentSources& sources, size_t bytes_max)
      : sources_(sources), bytes_max_(bytes_max), bytes_limit_(bytes_max) {}

  // Returns null when it is not known.
  const EntryAddress* Find(const uint8_t* hash, Copy copy = Copy::kNewest);
  void Remember(const uint8_t* hash, EntryAddress address);
  // What is known is relied on by a new record. Returns where it is.
  const EntryAddress& Reuse(const uint8_t* hash);
  // After each record that something was remembered of; the newest one is of this segment.
  void EnforceLimit(uint32_t newest_segment);

  // All shards must have been unmarked before. Mark returns whether the hash was not marked before.
  void MarkBegin();
  bool Mark(const uint8_t* hash);
  // Is it marked, though it was not in the index then?
  bool IsMarkedUnindexed(const uint8_t* hash);
  void MarkEnd();

  // These return how many slots of the shard they looked at.
  size_t Unmark(size_t shard) { return index_.Unmark(shard); }
  size_t DropDetached(size_t shard);

  size_t count() const { return index_.count(); }
  size_t bytes() const { return index_.bytes() + others_.bytes(); }

 private:
  const SegmentSources& sources_;
  DedupIndex index_;
  DedupIndex others_;
  DedupIndex marked_unindexed_;
  bool marking_ = false;
  const size_t bytes_max_;
  // The same, or more while what must be kept takes more.
  size_t bytes_limit_;
  // Segments from here on stay in the indexes; shards below `thinned_` have lost the others.
  uint32_t first_kept_ = 0;
  size_t thinned_ = DedupIndex::kShards;
  // No entry that may be forgotten is of an older segment, but in shards that are not thinned yet.
  uint32_t oldest_ = UINT32_MAX;
  uint32_t newest_ = 0;
};

}  // namespace aoe::cas
