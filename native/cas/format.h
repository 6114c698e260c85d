// Byte layouts that the engine reads and writes; docs/CAS-FORMAT.md is their description.
// All integers are little-endian, as the machines that are supported.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aoe::cas {

constexpr size_t kBlockSize = 4096;
constexpr size_t kHashSize = 32;
// A node of the Merkle tree: 128 hashes, then 128 location hints that its hash does not cover.
constexpr size_t kNodeHashedSize = 4096;
constexpr size_t kNodeSize = kNodeHashedSize + 128 * 8;

constexpr size_t kRecordAlignment = 4096;
constexpr size_t kFrameAlignment = 16;
constexpr size_t kEntriesMax = 256;
constexpr uint32_t kRecordMagic = 0x52434f41;  // "AOCR"
constexpr uint16_t kFormatVersion = 1;
constexpr uint16_t kMovedRecord = 3;  // a type of records: frames that a collection has moved

struct RecordHeader {
  uint32_t magic;
  uint16_t version;
  uint16_t type;
  uint8_t store[16];
  uint32_t segment;
  uint32_t offset;  // of this record in its segment, in units of kRecordAlignment
  uint64_t sequence;
  uint64_t epoch;  // how often the store had been opened
  uint64_t durable_sequence;
  uint32_t entry_count;
  uint32_t length;         // of the whole record in bytes, a multiple of kRecordAlignment
  uint32_t inline_length;  // bytes after the entries that the checksum covers
  uint8_t reserved[28];
  uint8_t checksum[kHashSize];  // over everything before it, the entries and the inline bytes
};
static_assert(sizeof(RecordHeader) == 128);
constexpr size_t kChecksummedHeaderSize = offsetof(RecordHeader, checksum);

enum class EntryKind : uint32_t {
  kBlock = 1,      // its frame is in this record
  kDuplicate = 2,  // its frame was stored before
  kZero = 3,
  kTrim = 4,  // `count` blocks from `lba` on become zero
  kNode = 5,  // its frame, a tree node, is in this record
};

struct Entry {
  EntryKind kind;
  uint32_t volume;
  uint64_t lba;
  uint8_t hash[kHashSize];
  uint32_t segment;  // where the frame is
  uint32_t place;    // (offset / kFrameAlignment) << 9 | (stored bytes / kFrameAlignment)
  uint32_t count;
  uint32_t reserved;
};
static_assert(sizeof(Entry) == 64);

constexpr uint32_t PackPlace(size_t offset, size_t stored) {
  return static_cast<uint32_t>(offset / kFrameAlignment) << 9 |
         static_cast<uint32_t>(stored / kFrameAlignment);
}
constexpr size_t PlaceOffset(uint32_t place) { return size_t{place >> 9} * kFrameAlignment; }
constexpr size_t PlaceStored(uint32_t place) { return size_t{place & 511} * kFrameAlignment; }
constexpr bool HasFrame(EntryKind kind) {
  return kind == EntryKind::kBlock || kind == EntryKind::kNode;
}
constexpr size_t RawSize(EntryKind kind) {
  return kind == EntryKind::kNode ? kNodeSize : kBlockSize;
}
constexpr size_t AlignUp(size_t value, size_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

}  // namespace aoe::cas
