// How a batch of rows becomes a record: entries that describe them, then the frames of those whose
// content is not stored yet.
#pragma once

#include <cstddef>
#include <cstdint>

#include "format.h"
#include "frame.h"

namespace aoe::cas {

// One row of a batch: what to log. `memory` is ignored by trims, `count` by everything else.
struct IngestRow {
  EntryKind kind;  // kBlock, kNode or kTrim
  uint32_t volume;
  uint32_t lba_low;
  uint32_t lba_high;
  uint32_t memory;  // offset of the block or node in the slab
  uint32_t count;
};

// One record of blocks and one of nodes may be laid out at a time.
struct CompressionGates {
  CompressionGate blocks;
  CompressionGate nodes;
};

// Writes the entries of `rows`: with their hashes, but not yet where their frames are.
void DescribeRows(const uint8_t* slab, const IngestRow* rows, size_t count, Entry* entries);

// Writes the frames of the entries of a record that have one; `places` receives where. Without
// `gates` nothing is compressed. Returns the bytes of the record that are used then.
size_t LayOutFrames(const uint8_t* slab, const IngestRow* rows, size_t count,
                    CompressionGates* gates, uint8_t* record, uint32_t* places);

}  // namespace aoe::cas
