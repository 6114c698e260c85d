// A frame: the stored form of one block or tree node, a multiple of 16 bytes long.
//
// Raw: the bytes themselves. Compressed: a 16-bit length, that many bytes of LZ4 block format,
// zeroes up to the alignment. Whichever it is shows in the stored size, so there is no flag.
#pragma once

#include <cstddef>
#include <cstdint>

#include "format.h"

namespace aoe::cas {

struct FrameLocation {
  uint32_t segment;
  uint32_t place;
};

// What came of looking for a frame, or of reading it.
enum class ReadResult : int32_t { kOk = 0, kWouldBlock = 1, kDamaged = 2, kGone = 3, kError = 4 };

// Decides when trying to compress is a waste of time: not after a run of incompressible data.
class CompressionGate {
 public:
  bool Try() { return failures_ < kFailuresMax || ++skipped_ % kRetryEvery == 0; }
  void Report(bool saved) { failures_ = saved ? 0 : failures_ + 1; }

 private:
  static constexpr uint32_t kFailuresMax = 16;
  static constexpr uint32_t kRetryEvery = 8;
  uint32_t failures_ = 0;
  uint32_t skipped_ = 0;
};

// Writes the frame of `raw` to `frame`, which has room for `raw_size` bytes; compressed only where
// that saves an eighth. Returns the stored size.
size_t EncodeFrame(const uint8_t* raw, size_t raw_size, uint8_t* frame, CompressionGate* gate);

// Restores a frame to `raw`. Returns whether that is what has this hash.
bool RestoreFrame(const uint8_t* frame, size_t stored, EntryKind kind, const uint8_t* hash,
                  uint8_t* raw);

}  // namespace aoe::cas
