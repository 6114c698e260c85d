#include "engine.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "record.h"

namespace aoe::cas {

size_t Engine::Ingest(const uint8_t* slab, const IngestRow* rows, size_t count, uint8_t* record,
                      bool compress, bool may_block) {
  Entry* entries = EntriesOf(record);
  DescribeRows(slab, rows, count, entries);
  FrameLocation same[kEntriesMax];
  for (size_t i = 0; i < count; i++) {
    if (entries[i].kind != EntryKind::kNode) continue;
    const uint8_t* node = slab + rows[i].memory;
    if (!FindSameNode(entries[i].hash, node, &same[i], may_block)) return 0;
  }
  int32_t holder[kEntriesMax];
  if (!known_.Deduplicate(record, count, same, may_block, holder)) return 0;
  uint32_t places[kEntriesMax];
  CompressionGates* gates = compress ? &gates_ : nullptr;
  const size_t used = LayOutFrames(slab, rows, count, gates, record, places);
  known_.Place(record, count, holder, places);
  FinishRecord(record, count, used);
  return HeaderOf(record)->length;
}

// Finds where the same node is with the same hints: one with others may lead to what a collection
// has freed, and was stored anew since. No segment for none. Returns false when it would block.
bool Engine::FindSameNode(const uint8_t* hash, const uint8_t* node, FrameLocation* location,
                          bool may_block) {
  *location = {};
  FrameLocation known;
  const ReadResult found = known_.Locate(hash, &known, may_block);
  if (found != ReadResult::kOk) return found != ReadResult::kWouldBlock;
  uint8_t raw[kNodeSize];
  const ReadResult read = Read(known, EntryKind::kNode, hash, raw, may_block);
  if (read == ReadResult::kWouldBlock) return false;
  const size_t hints_size = kNodeSize - kNodeHashedSize;
  if (read == ReadResult::kOk &&
      std::memcmp(raw + kNodeHashedSize, node + kNodeHashedSize, hints_size) == 0) {
    *location = known;
  }
  return true;
}

ReadResult Engine::Read(FrameLocation location, EntryKind kind, const uint8_t* hash, uint8_t* raw,
                        bool may_block) {
  const auto source = sources_.Get(location.segment);
  if (source == nullptr) return ReadResult::kGone;
  const size_t stored = PlaceStored(location.place);
  if (stored > RawSize(kind)) return ReadResult::kDamaged;
  uint8_t frame[kNodeSize];
  const int error = source->Read(frame, stored, PlaceOffset(location.place), may_block);
  if (error != 0) return error == EAGAIN ? ReadResult::kWouldBlock : ReadResult::kError;
  return RestoreFrame(frame, stored, kind, hash, raw) ? ReadResult::kOk : ReadResult::kDamaged;
}

size_t Engine::ChooseLive(const uint8_t* record, uint8_t* chosen) {
  size_t live = 0;
  for (size_t i = 0; i < HeaderOf(record)->entry_count; i++) {
    const Entry& entry = EntriesOf(record)[i];
    chosen[i] = HasFrame(entry.kind) && IsLive(record, i) ? 1 : 0;
    if (chosen[i] != 0) live += PlaceStored(entry.place) + sizeof(Entry);
  }
  return live;
}

// Must the frame of an entry of this record stay? Only if it is marked, and no other frame with
// the same content can take its place, such as one that an earlier collection has moved.
bool Engine::IsLive(const uint8_t* record, size_t index) {
  FrameLocation moved;
  if (!known_.IsMarked(record, index, &moved)) return false;
  if (moved.segment == 0) return true;
  // Rare enough to be read: what is about to go may be the only intact one.
  const Entry& entry = EntriesOf(record)[index];
  uint8_t raw[kNodeSize];
  return Read(moved, entry.kind, entry.hash, raw, true) != ReadResult::kOk;
}

size_t Engine::Move(const uint8_t* source, size_t available, const uint8_t* chosen,
                    uint8_t* target) {
  size_t damaged = 0;
  if (CheckRecord(source, available, false, &damaged) != RecordState::kValid) return 0;
  const RecordHeader* from = HeaderOf(source);
  if (from->length > available) return 0;
  const RecordHeader* to = HeaderOf(target);
  const size_t count =
      static_cast<size_t>(std::count(chosen, chosen + from->entry_count, uint8_t{1}));
  size_t used = sizeof(RecordHeader) + count * sizeof(Entry);
  Entry* next = EntriesOf(target);
  for (size_t i = 0; i < from->entry_count; i++) {
    if (chosen[i] == 0) continue;
    const Entry& entry = EntriesOf(source)[i];
    const size_t stored = MoveFrame(source, entry, target + used);
    if (stored == 0) return 0;
    *next = entry;
    next->segment = to->segment;
    next->place = PackPlace(size_t{to->offset} * kRecordAlignment + used, stored);
    next++;
    used += stored;
  }
  FinishRecord(target, count, used);
  return to->length;
}

// Returns the stored size of the frame, 0 when it is damaged everywhere.
size_t Engine::MoveFrame(const uint8_t* source, const Entry& entry, uint8_t* frame) {
  const size_t stored = PlaceStored(entry.place);
  if (IsIntact(source, entry)) {
    std::memcpy(frame, source + FrameStart(*HeaderOf(source), entry), stored);
    return stored;
  }
  uint8_t raw[kNodeSize];
  if (!ReadAnywhere(entry.kind, entry.hash, raw)) return 0;
  CompressionGate gate;
  const size_t encoded = EncodeFrame(raw, RawSize(entry.kind), frame, &gate);
  // The caller has room for a record as long as this one.
  return encoded > stored ? 0 : encoded;
}

// Reads what has this hash from the first of its places where it is intact.
bool Engine::ReadAnywhere(EntryKind kind, const uint8_t* hash, uint8_t* raw) {
  for (const Copy copy : {Copy::kNewest, Copy::kOther}) {
    FrameLocation location;
    if (known_.LocateCopy(copy, hash, &location) != ReadResult::kOk) continue;
    if (Read(location, kind, hash, raw, true) == ReadResult::kOk) return true;
  }
  return false;
}

}  // namespace aoe::cas
