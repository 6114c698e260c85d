// The engine of the content-addressed store: lays out log records without what is stored already,
// reads frames and verifies them, and moves those that a collection must keep. Plain C++: no N-API,
// no libuv.
//
// Threading: every function may be called from any thread; of Ingest() one of blocks and one of
// nodes at a time. There is no lock here, so hashing, compression and reads of frames keep nobody
// waiting: what is shared is in `sources()` and `known()`, which have locks of their own.
#pragma once

#include <cstddef>
#include <cstdint>

#include "format.h"
#include "frame.h"
#include "known_frames.h"
#include "record_layout.h"
#include "segment_sources.h"

namespace aoe::cas {

class Engine {
 public:
  explicit Engine(size_t index_bytes_max) : known_(sources_, index_bytes_max) {}

  SegmentSources& sources() { return sources_; }
  KnownFrames& known() { return known_; }

  // Builds the record for `rows` in `record`, whose header is filled in but for counts, lengths
  // and checksum. Returns its length, or 0, with nothing done, when `may_block` is false and it
  // would. The record stays known as pending until KnownFrames::Written().
  size_t Ingest(const uint8_t* slab, const IngestRow* rows, size_t count, uint8_t* record,
                bool compress, bool may_block);

  // Reads the frame at `location`, restores it to `raw` and compares its hash.
  ReadResult Read(FrameLocation location, EntryKind kind, const uint8_t* hash, uint8_t* raw,
                  bool may_block);

  // Collection: chooses the frames of a record that must stay, in `chosen`, 1 or 0 for each entry.
  // Returns how many bytes of it that are, with their entries. May block.
  size_t ChooseLive(const uint8_t* record, uint8_t* chosen);

  // Copies the chosen frames of the record `source`, of which `available` bytes are there, into the
  // new record `target` after verifying them; in place of a damaged one what the index leads to.
  // Returns its length, at most that of `source`; 0 when that is damaged, too. May block.
  size_t Move(const uint8_t* source, size_t available, const uint8_t* chosen, uint8_t* target);

 private:
  bool FindSameNode(const uint8_t* hash, const uint8_t* node, FrameLocation* location,
                    bool may_block);
  bool IsLive(const uint8_t* record, size_t index);
  size_t MoveFrame(const uint8_t* source, const Entry& entry, uint8_t* frame);
  bool ReadAnywhere(EntryKind kind, const uint8_t* hash, uint8_t* raw);

  SegmentSources sources_;
  KnownFrames known_;
  CompressionGates gates_;
};

}  // namespace aoe::cas
