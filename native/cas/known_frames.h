// The frames that are known by their hashes: which of those of a new record are stored already,
// where one is for whoever reads it, and which of them a collection must keep.
//
// A record is pending from Deduplicate() to Written(): its entries are taken from memory. Where its
// own frames are they tell from Place() on; until then their segment is 0.
//
// Threading: every function may be called from any thread. `mutex_` guards all, entries of pending
// records too. It is given up while the disk is waited for, because the thread of the server needs
// it, too; without `may_block` nothing is waited for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <unordered_set>

#include "entry_reader.h"
#include "format.h"
#include "frame.h"
#include "frame_index.h"
#include "segment_sources.h"

namespace aoe::cas {

class KnownFrames {
 public:
  KnownFrames(const SegmentSources& sources, size_t index_bytes_max)
      : sources_(sources), index_(sources, index_bytes_max), entries_(sources) {}

  // Makes a new record known. Those of its `count` entries whose frames are stored already become
  // duplicates; a node only of the one at `same`. `holder` receives which entry of the record has
  // the frame of each, itself or an earlier one: -1 for none of them. Returns false, with nothing
  // done, when `may_block` is false and it would.
  bool Deduplicate(uint8_t* record, size_t count, const FrameLocation* same, bool may_block,
                   int32_t* holder);
  // Writes into the entries of a new record where its frames are.
  void Place(uint8_t* record, size_t count, const int32_t* holder, const uint32_t* places);
  // The record can be read from its segment from now on.
  void Written(const uint8_t* record);

  // Makes the frames of a checked record known. While the index is `rebuilt` after a start they do
  // not take the place of what was replayed or logged since.
  void Add(const uint8_t* record, bool rebuilt);

  // Looks up where a frame is by its hash alone: where it is not known to be damaged, if there is
  // such a place: kOk, kGone, or kWouldBlock unless it may.
  ReadResult Locate(const uint8_t* hash, FrameLocation* location, bool may_block);
  // The same for one of two places. May block.
  ReadResult LocateCopy(Copy copy, const uint8_t* hash, FrameLocation* location);

  // Remembers that a frame is damaged: no duplicate may rely on it.
  void Distrust(FrameLocation location);

  // Collection. Between MarkBegin and MarkEnd whatever is stored or found as a duplicate is
  // marked too. Mark returns whether the hash was not marked before. MarkBegin and DropDetached go
  // over all of the index: not for the thread of the server.
  void MarkBegin();
  bool Mark(const uint8_t* hash);
  // Is the frame of an entry of this record marked? `moved` receives where another one with the
  // same content is that a collection has moved: no segment for none. May block.
  bool IsMarked(const uint8_t* record, size_t index, FrameLocation* moved);
  void MarkEnd();
  void DropDetached();

  size_t index_count();
  size_t index_bytes();

 private:
  using Lock = std::unique_lock<std::mutex>;

  bool CanDeduplicateNow(const Entry* entries, size_t count);
  int32_t DeduplicateEntry(uint8_t* record, size_t i, const FrameLocation& same, bool may_block,
                           Lock* lock);
  bool FindDuplicate(const uint8_t* hash, Entry* entry, EntryReader::Miss* miss);
  ReadResult LookUp(Copy copy, const uint8_t* hash, FrameLocation* location, bool may_block,
                    Lock* lock);
  bool Fetch(const EntryReader::Miss& miss, Lock* lock);
  bool IsDamaged(FrameLocation location) const;
  // Does some work on each shard of the index; it returns how many slots it looked at.
  void InParts(const std::function<size_t(size_t shard)>& work);

  const SegmentSources& sources_;
  std::mutex mutex_;
  FrameIndex index_;
  EntryReader entries_;
  std::unordered_set<uint64_t> damaged_;  // keys of locations; numbers of segments come once
};

}  // namespace aoe::cas
