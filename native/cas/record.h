// A record in memory: its parts, how it is finished, and whether it is what it says.
#pragma once

#include <cstddef>
#include <cstdint>

#include "format.h"

namespace aoe::cas {

inline RecordHeader* HeaderOf(uint8_t* record) { return reinterpret_cast<RecordHeader*>(record); }
inline const RecordHeader* HeaderOf(const uint8_t* record) {
  return reinterpret_cast<const RecordHeader*>(record);
}
inline Entry* EntriesOf(uint8_t* record) {
  return reinterpret_cast<Entry*>(record + sizeof(RecordHeader));
}
inline const Entry* EntriesOf(const uint8_t* record) {
  return reinterpret_cast<const Entry*>(record + sizeof(RecordHeader));
}

// Where a frame of this record begins, counted from the start of the record.
inline size_t FrameStart(const RecordHeader& header, const Entry& entry) {
  return PlaceOffset(entry.place) - size_t{header.offset} * kRecordAlignment;
}

// Fills in what a header says of `count` entries whose frames end after `used` bytes, and seals it.
void FinishRecord(uint8_t* record, size_t count, size_t used);

// Writes the checksum of a record into its header.
void SealRecord(uint8_t* record);

enum class RecordState : int32_t { kValid = 0, kTorn = 1, kDamagedFrame = 2 };

// Checks a record of which `available` bytes are there: header and entries suffice unless
// `frames` asks for each frame, too.
// `damaged` receives the index of the first frame that is not what its entry says.
RecordState CheckRecord(const uint8_t* record, size_t available, bool frames, size_t* damaged);

// Is the frame in this record what its entry says?
bool IsIntact(const uint8_t* record, const Entry& entry);

}  // namespace aoe::cas
