// Marks sectors so that a read can tell which write it sees, and whether it sees all of it:
//
//     0     8       16                   504        512
//     | LBA | owner | as it was ...      | LBA^owner mixed |
#pragma once

#include "aoe.h"

#include <stdbool.h>
#include <string.h>

static inline uint64_t stamp_mix(uint64_t lba, uint64_t owner) {
  return (lba ^ owner) * 0x9E3779B97F4A7C15u;
}

static inline void stamp_sectors(uint8_t *data, unsigned count, uint64_t lba, uint64_t owner) {
  for (; count > 0; count--, lba++, data += SECTOR_SIZE) {
    uint64_t mix = stamp_mix(lba, owner);
    memcpy(data, &lba, 8);
    memcpy(data + 8, &owner, 8);
    memcpy(data + SECTOR_SIZE - 8, &mix, 8);
  }
}

static inline bool stamps_match(const uint8_t *data, unsigned count, uint64_t lba, uint64_t owner) {
  for (; count > 0; count--, lba++, data += SECTOR_SIZE) {
    uint64_t mix = stamp_mix(lba, owner);
    if (memcmp(data, &lba, 8) || memcmp(data + 8, &owner, 8)) return false;
    if (memcmp(data + SECTOR_SIZE - 8, &mix, 8)) return false;
  }
  return true;
}
