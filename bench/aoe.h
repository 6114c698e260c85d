// What load.c and reflector.c share: the AoE frame (AoEr11) and the clock.
#pragma once

#include <endian.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
  ETHERTYPE_AOE = 0x88A2,
  AOE_VERSION_1 = 0x10,
  AOE_RESPONSE = 0x08,
  AOE_ERROR = 0x04,
  AOE_ATA = 0,
  AOE_CONFIG = 1,
  ATA_EXTENDED = 0x40,
  ATA_WRITE = 0x01,
  ATA_READ_SECTORS = 0x20,
  ATA_READ_SECTORS_EXT = 0x24,
  ATA_WRITE_SECTORS = 0x30,
  ATA_WRITE_SECTORS_EXT = 0x34,
  ATA_IDENTIFY_DEVICE = 0xEC,
  ATA_READY = 0x40,
  ATA_FAILED = 0x21,  // device fault or error
  SECTOR_SIZE = 512,
  REQUEST_SIZE_MIN = 32,  // of a config query without padding
  FRAME_SIZE_MIN = 60,
  FRAME_SIZE_MAX = 9216,
  BATCH = 64,
};

// From the destination MAC on. Fields of several bytes are big-endian, the LBA little-endian.
struct frame {
  uint8_t destination[6], source[6];
  uint16_t ethertype;
  uint8_t version_flags, error;
  uint16_t shelf;
  uint8_t slot, command;
  uint32_t tag;
  union {
    struct {
      uint8_t flags, feature, sector_count, command_status, lba[6], reserved[2];
    } ata;
    struct {
      uint16_t buffer_count, firmware;
      uint8_t sector_count, version_command;
      uint16_t length;
    } config;
  };
  uint8_t data[];
} __attribute__((packed));

_Static_assert(sizeof(struct frame) == 36, "the data of an ATA command begins at byte 36");

static inline uint64_t now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

_Noreturn static inline void fail(const char *what) {
  perror(what);
  exit(2);
}
