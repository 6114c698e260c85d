#include "frame.h"

#include <lz4.h>

#include <algorithm>
#include <cstring>

#include "block_hash.h"

namespace aoe::cas {

namespace {

constexpr size_t kLengthSize = 2;

// Restores `raw_size` bytes. Returns false when the frame is damaged in a way that shows; whether
// the bytes are right only their hash tells.
bool DecodeFrame(const uint8_t* frame, size_t stored, uint8_t* raw, size_t raw_size) {
  if (stored == raw_size) {
    std::memcpy(raw, frame, raw_size);
    return true;
  }
  if (stored < kFrameAlignment || stored > raw_size) return false;
  uint16_t length = 0;
  std::memcpy(&length, frame, kLengthSize);
  const size_t used = kLengthSize + length;
  if (used > stored || AlignUp(used, kFrameAlignment) != stored) return false;
  const bool clean =
      std::all_of(frame + used, frame + stored, [](uint8_t byte) { return byte == 0; });
  return clean && LZ4_decompress_safe(reinterpret_cast<const char*>(frame) + kLengthSize,
                                      reinterpret_cast<char*>(raw), length,
                                      static_cast<int>(raw_size)) == static_cast<int>(raw_size);
}

}  // namespace

size_t EncodeFrame(const uint8_t* raw, size_t raw_size, uint8_t* frame, CompressionGate* gate) {
  if (gate->Try()) {
    const size_t limit = raw_size - raw_size / 8 - kLengthSize;
    const int length = LZ4_compress_default(
        reinterpret_cast<const char*>(raw), reinterpret_cast<char*>(frame) + kLengthSize,
        static_cast<int>(raw_size), static_cast<int>(limit));
    gate->Report(length > 0);
    if (length > 0) {
      const auto stored_length = static_cast<uint16_t>(length);
      std::memcpy(frame, &stored_length, kLengthSize);
      const size_t used = kLengthSize + stored_length;
      const size_t stored = AlignUp(used, kFrameAlignment);
      std::memset(frame + used, 0, stored - used);
      return stored;
    }
  }
  std::memcpy(frame, raw, raw_size);
  return raw_size;
}

bool RestoreFrame(const uint8_t* frame, size_t stored, EntryKind kind, const uint8_t* hash,
                  uint8_t* raw) {
  if (!DecodeFrame(frame, stored, raw, RawSize(kind))) return false;
  uint8_t actual[kHashSize];
  const uint8_t* inputs[] = {raw};
  const auto domain = kind == EntryKind::kNode ? HashDomain::kNode : HashDomain::kBlock;
  HashMany(domain, inputs, 1, actual);
  return SameHash(actual, hash);
}

}  // namespace aoe::cas
