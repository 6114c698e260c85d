// The engine of the content-addressed store: hashes, deduplicates, compresses and lays out log
// records; reads and verifies frames. Plain C++: no N-API, no libuv.
//
// Threading: every function may be called from any thread. `mutex_` guards the index, the entry
// reader and so the entries of pending records; hashing, compression and file reads of frames happen
// outside of it.
//
// Invariant: an index entry points to an entry that is in a pending record or in an attached
// segment, or the segment is gone and the entry is ignored.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <unordered_set>

#include "dedup_index.h"
#include "entry_reader.h"
#include "format.h"
#include "frame.h"
#include "record_layout.h"
#include "segment_sources.h"

namespace aoe::cas {

class Engine {
 public:
  explicit Engine(size_t index_bytes_max)
      : index_bytes_max_(index_bytes_max), index_bytes_limit_(index_bytes_max) {}

  SegmentSources& sources() { return sources_; }

  // Builds the record for `rows` in `record`, whose header is filled in but for counts, lengths
  // and checksum. Returns its length, or 0, with nothing done, when `may_block` is false and it
  // would. The record stays known as pending until Written().
  size_t Ingest(const uint8_t* slab, const IngestRow* rows, size_t count, uint8_t* record,
                bool compress, bool may_block);
  void Written(const uint8_t* record);

  // Reads the frame at `location`, restores it to `raw` and compares its hash.
  ReadResult Read(FrameLocation location, EntryKind kind, const uint8_t* hash, uint8_t* raw,
                  bool may_block);

  // Looks up where a frame is by its hash alone: where it is not known to be damaged, if there is
  // such a place: kOk, kGone, or kWouldBlock unless it may.
  ReadResult Locate(const uint8_t* hash, FrameLocation* location, bool may_block);

  // Remembers that a frame is damaged: no duplicate may rely on it.
  void Distrust(FrameLocation location);

  // Makes the frames of a checked record known to the index. While it is `rebuilt` after a start
  // they do not take the place of what was replayed or logged since.
  void AddToIndex(const uint8_t* record, bool rebuilt);

  // Copies the chosen frames of the record `source`, of which `available` bytes are there, into the
  // new record `target` after verifying them; in place of a damaged one what the indexes lead to.
  // Returns its length, at most that of `source`; 0 when that is damaged, too. May block.
  size_t Move(const uint8_t* source, size_t available, const uint8_t* chosen, uint8_t* target);

  // Collection. Between MarkBegin and MarkEnd whatever is stored or found as a duplicate is
  // marked too. Mark returns whether the hash was not marked before. MarkBegin and DropDetached go
  // over all of the index: not for the thread of the server.
  void MarkBegin();
  bool Mark(const uint8_t* hash);
  // Must the frame of an entry of this record stay? Only if it is marked, and no other frame with
  // the same content can take its place, such as one that an earlier collection has moved.
  bool IsLive(const uint8_t* record, size_t index);
  void MarkEnd();
  void DropDetached();

  size_t index_count();
  size_t index_bytes();

 private:
  bool FindDuplicate(const uint8_t* hash, Entry* entry, EntryReader::Miss* miss);
  // Finds where the same node is with the same hints: one with others may lead to what a collection
  // has freed, and was stored anew since. No segment for none. Returns false when it would block.
  bool FindSameNode(const uint8_t* hash, const uint8_t* node, FrameLocation* location,
                    bool may_block);
  // Writes into the entries of a record where its frames are: `holder` tells which entry has the
  // frame of each, -1 for none of them.
  void Place(uint8_t* record, size_t count, const int32_t* holder, const uint32_t* places);
  bool Fetch(const EntryReader::Miss& miss, std::unique_lock<std::mutex>* lock);
  // Reads what has this hash from the first place that the indexes lead to where it is intact.
  bool ReadAnywhere(EntryKind kind, const uint8_t* hash, uint8_t* raw);
  ReadResult LookUp(DedupIndex* index, const uint8_t* hash, FrameLocation* location, bool may_block,
                    std::unique_lock<std::mutex>* lock);
  void Remember(uint64_t fingerprint, EntryAddress address);
  void EnforceLimit(uint32_t newest_segment);
  // Does some work on each shard of the indexes; it returns how many slots it looked at.
  void InParts(const std::function<size_t(size_t shard)>& work);
  size_t AllIndexBytes() const { return index_.bytes() + others_.bytes(); }

  const size_t index_bytes_max_;
  // The same, or more while what must be kept takes more.
  size_t index_bytes_limit_;
  // Segments from here on stay in the indexes; shards below `thinned_` have lost the others.
  uint32_t first_kept_ = 0;
  size_t thinned_ = DedupIndex::kShards;
  // No entry that may be forgotten is of an older segment, but in shards that are not thinned yet.
  uint32_t oldest_ = UINT32_MAX;
  uint32_t newest_ = 0;
  SegmentSources sources_;
  std::mutex mutex_;
  DedupIndex index_;
  DedupIndex others_;  // where else what is stored twice is: the one in `index_` may be damaged
  EntryReader entries_{sources_};
  CompressionGates gates_;
  DedupIndex marked_unindexed_;
  std::unordered_set<uint64_t> damaged_;  // keys of locations; numbers of segments come once
  bool marking_ = false;
};

}  // namespace aoe::cas
