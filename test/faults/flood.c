// flood: sends a target frames that are wrong in every way, and judges every reply.
//
//   flood FRAMES SEED SHELF.SLOT INTERFACE
//
// Some frames are noise behind the EtherType, most are requests with a few bytes spoilt. None is
// a valid request to change the disk or who may use it: those are made invalid, so the target's
// content, which must be all zeroes, must stay so. After each burst the target must answer an
// IDENTIFY, so that no frame is lost unseen. One line of JSON is printed at the end.
//
// A reply is wrong if it does not fit in the MTU or is shorter than 60 bytes, comes from another
// address than the target's, lacks the response flag, or carries a byte that has no business
// there: data of a disk of zeroes other than zero, or anything behind the end of a short reply.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { kEtherType = 0x88a2, kHeader = 36, kBurst = 64, kPatienceMs = 5000 };
enum { kRead = 0x20, kReadExt = 0x24, kWrite = 0x30, kWriteExt = 0x34, kTrim = 0x06 };
#define ALIVE_TAG 0x7a000000u

static int fd, shelf, slot, mtu;
static uint8_t own[6], server[6];
static uint64_t state, replies, wrong, refused, failed, succeeded;

static void Die(const char *what) {
  perror(what);
  exit(2);
}

static uint32_t Random(void) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (uint32_t)(state >> 16);
}

static void Fill(uint8_t *at, size_t size) {
  for (size_t i = 0; i < size; i += 4) {
    const uint32_t noise = Random();
    memcpy(at + i, &noise, size - i < 4 ? size - i : 4);
  }
}

static void Open(const char *name) {
  struct ifreq request = {0};
  const int one = 1, size = 32 << 20;
  fd = socket(AF_PACKET, SOCK_RAW, htons(kEtherType));
  if (fd < 0) Die("socket");
  strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  if (ioctl(fd, SIOCGIFINDEX, &request) < 0) Die(name);
  struct sockaddr_ll address = {
      .sll_family = AF_PACKET, .sll_protocol = htons(kEtherType), .sll_ifindex = request.ifr_ifindex};
  if (ioctl(fd, SIOCGIFHWADDR, &request) < 0) Die(name);
  memcpy(own, request.ifr_hwaddr.sa_data, 6);
  if (ioctl(fd, SIOCGIFMTU, &request) < 0) Die(name);
  mtu = request.ifr_mtu;
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
  setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one);
  setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one);
  if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) Die("bind");
}

static void Header(uint8_t *frame, int command, uint32_t tag) {
  static const uint8_t everybody[6] = {255, 255, 255, 255, 255, 255};
  memcpy(frame, Random() % 8 == 0 ? everybody : server, 6);
  memcpy(frame + 6, own, 6);
  frame[12] = kEtherType >> 8;
  frame[13] = kEtherType & 0xff;
  frame[14] = 0x10;
  frame[16] = (uint8_t)(shelf >> 8);
  frame[17] = (uint8_t)shelf;
  frame[18] = (uint8_t)slot;
  frame[19] = (uint8_t)command;
  for (int i = 0; i < 4; i++) frame[20 + i] = (uint8_t)(tag >> (24 - 8 * i));
}

// Makes a frame that would change the disk, or lock us out, invalid. Says nothing of the rest.
static void Defuse(uint8_t *frame, size_t size) {
  if (size < 24) return;
  if (frame[19] == 0 && size >= kHeader) {
    const uint8_t opcode = frame[27];
    if (opcode == kWrite || opcode == kWriteExt || opcode == kTrim) {
      // Without the write flag, or without the sectors that it announces.
      if (Random() % 2 || kHeader + 512u * 255 <= size) frame[24] &= 0xfe;
      else frame[26] = 255;
    }
  }
  if (frame[19] == 2 && size >= 28 && frame[25] == 1) {
    // More directives than there are; if there is room for all of them, another command.
    if (28u + 8 * 255 <= size) frame[25] = 9;
    else frame[27] = 255;
  }
  if (frame[19] == 3 && size >= 26 && (frame[24] == 1 || frame[24] == 2)) {
    if (26u + 6 * 255 <= size) frame[24] = 9;
    else frame[25] = 255;
  }
}

static size_t Make(uint8_t *frame) {
  static const uint8_t opcodes[] = {kRead, kReadExt, kWrite, kWriteExt, kTrim, 0xec, 0xe7, 0xea,
                                    0xe5,  0xef,     0xb0,   0x40,      0x42,  0xe0, 0x00, 0xc8};
  const uint32_t max = (uint32_t)mtu + 14;
  const uint32_t kind = Random() % 16;
  size_t size = 14 + Random() % (max - 13);
  if (Random() % 2) size = 24 + Random() % 64;
  memset(frame, 0, max);
  if (kind == 0) {
    Fill(frame, size);
    memcpy(frame, server, 6);
    memcpy(frame + 6, own, 6);
    frame[12] = kEtherType >> 8;
    frame[13] = kEtherType & 0xff;
    if (size > 20) frame[14] &= 0xf7;
  } else {
    Header(frame, kind < 10 ? 0 : (int)(Random() % 6), Random() & 0x3fffffff);
    Fill(frame + 24, size > 24 ? size - 24 : 0);
    if (kind < 8) {
      frame[24] = (uint8_t)(Random() & 0x41);
      frame[26] = (uint8_t)(Random() % 20);
      frame[27] = opcodes[Random() % sizeof opcodes];
      frame[30] = frame[31] = frame[32] = frame[33] = 0;
      if (Random() % 4 == 0) Fill(frame + 28, 6);
    }
    for (uint32_t spoilt = Random() % 3; spoilt > 0; spoilt--) frame[14 + Random() % 30] = (uint8_t)Random();
  }
  Defuse(frame, size);
  return size;
}

static bool IsZero(const uint8_t *at, const uint8_t *end) {
  for (; at < end; at++) {
    if (*at != 0) return false;
  }
  return true;
}

// Where the argument of an error reply ends: behind the config string, or the reserve list.
static size_t ArgumentEnd(const uint8_t *frame) {
  const bool is_reserved = frame[15] == 6;
  if (frame[19] == 1) return 32 + (size_t)(frame[30] << 8 | frame[31]);
  if (frame[19] == 2) return 28;
  if (frame[19] == 3) return 26 + (is_reserved ? 6 * (size_t)frame[25] : 0);
  return 24;
}

static const char *Judge(const uint8_t *frame, size_t size) {
  if (size < 60 || size > (size_t)mtu + 14) return "size";
  if (memcmp(frame + 6, server, 6) != 0 || memcmp(frame, own, 6) != 0) return "address";
  if ((frame[14] & 0xf8) != 0x18) return "flags";
  if ((frame[14] & 4) != 0) {
    refused++;
    const uint8_t *end = frame + ArgumentEnd(frame);
    return IsZero(end, frame + size) ? NULL : "a byte behind an error";
  }
  if (frame[19] != 0) return NULL;
  if ((frame[27] & 0xa9) != 0) {
    failed++;
    return size == 60 && IsZero(frame + kHeader, frame + size) ? NULL : "a byte behind a failure";
  }
  succeeded++;
  if (size == 60) return IsZero(frame + kHeader, frame + size) ? NULL : "a byte behind a success";
  if ((size - kHeader) % 512 != 0) return "length";
  // One sector may be an identity or a health record; more are the disk's.
  if (size > kHeader + 512 && !IsZero(frame + kHeader, frame + size)) return "data";
  return NULL;
}

// Takes replies until the one with `tag` is there.
static bool Await(uint32_t tag) {
  static uint8_t frame[1 << 16];
  for (;;) {
    struct pollfd readable = {fd, POLLIN, 0};
    if (poll(&readable, 1, kPatienceMs) <= 0) return false;
    const ssize_t size = recv(fd, frame, sizeof frame, 0);
    if (size < 24 || (frame[14] & 8) == 0) continue;
    const uint32_t found = (uint32_t)frame[20] << 24 | frame[21] << 16 | frame[22] << 8 | frame[23];
    if (frame[19] == 1 && found == 0) continue;  // an announcement
    replies++;
    if (found == tag && tag >> 24 == ALIVE_TAG >> 24) {
      memcpy(server, frame + 6, 6);
      return true;
    }
    const char *fault = Judge(frame, (size_t)size);
    if (fault == NULL || wrong++ >= 5) continue;
    fprintf(stderr, "flood: %s in a reply of %zd bytes:", fault, size);
    for (int i = 0; i < 60 && i < size; i++) fprintf(stderr, " %02x", frame[i]);
    fprintf(stderr, "\n");
  }
}

static void Send(const uint8_t *frame, size_t size) {
  while (send(fd, frame, size, 0) < 0) {
    if (errno != ENOBUFS && errno != EAGAIN && errno != EINTR) Die("send");
  }
}

static void RequireAlive(uint32_t number) {
  uint8_t frame[60] = {0};
  const uint32_t tag = ALIVE_TAG | (number & 0xffffff);
  for (int tries = 0; tries < 3; tries++) {
    Header(frame, 0, tag);
    if (number == 0) memset(frame, 255, 6);
    frame[26] = 1;
    frame[27] = 0xec;
    Send(frame, sizeof frame);
    if (Await(tag)) return;
  }
  fprintf(stderr, "flood: the target is silent after burst %u\n", number);
  exit(1);
}

int main(int argc, char **argv) {
  if (argc != 5 || sscanf(argv[3], "%d.%d", &shelf, &slot) != 2) {
    fprintf(stderr, "usage: flood FRAMES SEED SHELF.SLOT INTERFACE\n");
    return 2;
  }
  const uint64_t count = strtoull(argv[1], NULL, 10);
  state = strtoull(argv[2], NULL, 10) * 0x9e3779b97f4a7c15u | 1;
  Open(argv[4]);
  uint8_t *frame = malloc((size_t)mtu + 14);
  RequireAlive(0);
  uint64_t sent = 0;
  for (uint32_t burst = 1; sent < count; burst++) {
    for (int i = 0; i < kBurst; i++, sent++) Send(frame, Make(frame));
    RequireAlive(burst);
  }
  printf("{\"sent\":%llu,\"replies\":%llu,\"succeeded\":%llu,\"failed\":%llu,\"refused\":%llu,"
         "\"wrong\":%llu}\n",
         (unsigned long long)sent, (unsigned long long)replies, (unsigned long long)succeeded,
         (unsigned long long)failed, (unsigned long long)refused, (unsigned long long)wrong);
  return wrong > 0;
}
