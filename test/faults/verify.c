// verify: an AoE initiator that trusts nothing.
//
//   verify [options] SHELF.SLOT INTERFACE...
//
// Reads and writes random windows of a target for a while and compares every sector that it reads
// with what it was told is written. Each sector carries its address and a generation. Windows
// overlap earlier ones but never one that is in flight, as under a block layer. A request without
// an answer is resent with a new tag on the next interface, and only the newest tag counts, as
// with the Linux initiator. One line of JSON is printed at the end.
//
//   -t SEC    seconds to run (default 3)          -q N   requests in flight (default 32)
//   -m N      and until so many writes have succeeded (default 0), however slow the disk is
//   -n N      most sectors in a request (default what the server announces)
//   -o N      first sector to use (default 0)     -s N   sectors to use (default all)
//   -w PCT    writes among the requests (default 50)
//   -i N      initiators: source addresses, each with its own requests and part of the sectors
//   -T MS     resend after (default 200, doubled with each resend, at most 2 s)
//   -l PCT    drop, -d PCT duplicate, -y PCT delay: requests as well as responses
//   -D MS     longest delay (default 30)
//   -p PID    pause this process now and then, so that requests pile up in its receive rings
//   -j FILE   keep what is written there, for a later run; begins with all zeroes
//   -a FILE   append each acknowledgement of a write: first sector, count, generation
//   -x        write only, also where a write is in flight: in the end the last one sent counts.
//             Only for a network that loses nothing, and with -j, for a later run with -c
//   -c        only read every sector once, and compare
//   -k        set the config string again and again instead, to ascending numbers from -o on, each
//             when the one before is confirmed; `writes` counts them, `refused` ends the run
//   -e        an ATA error is an answer as good as any; without it, errors make the run fail
//   -g SEC    patience with requests in flight at the end (default 20)
//   -S SEED   of the random numbers
//
// A sector may hold any generation from the last acknowledged to the last sent one: a write that
// failed, or that was not answered, has happened or not. Copies of a request that are delayed
// here keep its window from being used again: a network that holds a write back until newer data
// is acknowledged defeats any target, as AoE has no sequence numbers.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
  kEtherType = 0x88a2,
  kHeader = 36,
  kSector = 512,
  kFrameMax = 9216 + 14,
  kSlotMax = 8192,
  kDelayedMax = 16384,
  kInterfaceMax = 4,
  kLatencyMax = 1 << 22,
};

typedef struct {
  int fd;
  uint8_t mac[6], server[6];
} Interface;

typedef struct {
  bool busy, answered, writes;
  uint32_t tag, lba, count, generation;
  int initiator, interface, tries;
  int copies;  // of its frames that are delayed here
  uint64_t first_ns, due_ns;
  size_t size;
  uint8_t frame[kFrameMax];
} Slot;

typedef struct {
  uint64_t due_ns;
  int interface, slot;  // slot < 0: a response
  size_t size;
  uint8_t *frame;
} Delayed;

// What each sector may hold, from the last acknowledged to the last sent generation; 0: zeroes.
typedef struct {
  uint32_t acked, sent;
} Sector;

static Interface interfaces[kInterfaceMax];
static int interface_count;
static Slot *slots;
static Delayed delayed[kDelayedMax];
static int delayed_count;
static Sector *sectors;
static uint8_t *in_flight;
static uint32_t *latencies_us;
static uint32_t *done_by;
static uint64_t latency_count;

static int shelf, slot_number, initiators = 1, seconds = 3, depth = 32, write_pct = 50;
static int resend_ms = 200, delay_ms = 30, patience = 20, server_sectors, server_buffers;
static uint32_t first_sector, sector_count, sectors_max, generation, tag_count;
static double drop_pct, duplicate_pct, delay_pct;
static bool checking, overlapping, configuring, errors_pass;
static pid_t paused_pid;
static uint64_t random_state = 88172645463325252u, acks;
static FILE *ack_log;
static uint64_t writes_min;
static uint64_t reads, writes, resends, late, wrong, failed, refused, malformed;
static int last_status, last_error;

static void Die(const char *what) {
  perror(what);
  exit(2);
}

static uint64_t Now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t Random(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

static bool Chance(double pct) { return pct > 0 && (double)(Random() % 1000000) < pct * 10000; }

// --- sectors ---------------------------------------------------------------------------------

static void Stamp(uint8_t *data, uint64_t lba, uint64_t gen, uint64_t acks_then) {
  uint64_t words[kSector / 8] = {0x796669726576u /* "verify" */, lba, gen, acks_then};
  uint64_t x = (lba + 1) * 0x9e3779b97f4a7c15u ^ gen << 32 ^ acks_then;
  for (int i = 4; i < kSector / 8; i++) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    words[i] = x;
  }
  memcpy(data, words, sizeof words);
}

static void Compare(const uint8_t *data, uint32_t lba) {
  static const uint8_t zeroes[kSector];
  uint64_t found[4];
  uint8_t wanted[kSector];
  const Sector *sector = &sectors[lba];
  memcpy(found, data, sizeof found);
  Stamp(wanted, lba, found[2], found[3]);
  const bool in_range = found[2] >= sector->acked && found[2] <= sector->sent && found[2] > 0;
  if (in_range && memcmp(data, wanted, kSector) == 0) return;
  if (sector->acked == 0 && memcmp(data, zeroes, kSector) == 0) return;
  if (wrong++ >= 5) return;
  fprintf(stderr, "verify: sector %u holds sector %llu generation %llu, not %u to %u\n", lba,
          (unsigned long long)found[1], (unsigned long long)found[2], sector->acked, sector->sent);
}

static void MapJournal(const char *path, uint32_t count) {
  const size_t size = count * sizeof(Sector);
  int flags = MAP_PRIVATE | MAP_ANONYMOUS, fd = -1;
  if (path != NULL) {
    fd = open(path, O_RDWR | O_CREAT, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)size) < 0) Die(path);
    flags = MAP_SHARED;
  }
  sectors = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);
  if (sectors == MAP_FAILED) Die("mmap");
  for (uint32_t i = 0; i < count; i++) {
    if (sectors[i].sent > generation) generation = sectors[i].sent;
  }
}

// --- frames ----------------------------------------------------------------------------------

static void OpenInterface(const char *name) {
  Interface *interface = &interfaces[interface_count++];
  struct ifreq request = {0};
  const int size = 64 << 20, one = 1;
  interface->fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(kEtherType));
  if (interface->fd < 0) Die("socket");
  strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  if (ioctl(interface->fd, SIOCGIFINDEX, &request) < 0) Die(name);
  struct sockaddr_ll address = {
      .sll_family = AF_PACKET, .sll_protocol = htons(kEtherType), .sll_ifindex = request.ifr_ifindex};
  if (ioctl(interface->fd, SIOCGIFHWADDR, &request) < 0) Die(name);
  memcpy(interface->mac, request.ifr_hwaddr.sa_data, 6);
  setsockopt(interface->fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
  setsockopt(interface->fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
  setsockopt(interface->fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one);
  if (bind(interface->fd, (struct sockaddr *)&address, sizeof address) < 0) Die("bind");
}

static void Put32(uint8_t *at, uint32_t value) {
  for (int i = 0; i < 4; i++) at[i] = (uint8_t)(value >> (24 - 8 * i));
}

static uint32_t Get32(const uint8_t *at) {
  return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static bool IsFromTarget(const uint8_t *frame) {
  return (frame[16] << 8 | frame[17]) == shelf && frame[18] == slot_number;
}

static void WriteHeader(uint8_t *frame, const Interface *interface, const uint8_t *destination,
                        int initiator, int command, uint32_t tag) {
  memcpy(frame, destination, 6);
  memcpy(frame + 6, interface->mac, 6);
  if (initiator > 0) {
    frame[6] = 0x02;
    frame[10] = (uint8_t)(initiator >> 8);
    frame[11] = (uint8_t)initiator;
  }
  frame[12] = kEtherType >> 8;
  frame[13] = kEtherType & 0xff;
  frame[14] = 0x10;
  frame[16] = (uint8_t)(shelf >> 8);
  frame[17] = (uint8_t)shelf;
  frame[18] = (uint8_t)slot_number;
  frame[19] = (uint8_t)command;
  Put32(frame + 20, tag);
}

static void SendNow(int interface, const uint8_t *frame, size_t size) {
  while (send(interfaces[interface].fd, frame, size, 0) < 0) {
    // A link that is down or away loses what is sent on it.
    if (errno == ENETDOWN || errno == ENXIO || errno == ENODEV || errno == EMSGSIZE) return;
    if (errno != ENOBUFS && errno != EAGAIN && errno != EINTR) Die("send");
  }
}

static bool Delay(int interface, int slot, const uint8_t *frame, size_t size) {
  if (!Chance(delay_pct) || delayed_count == kDelayedMax) return false;
  uint8_t *copy = malloc(size);
  memcpy(copy, frame, size);
  const uint64_t due_ns = Now() + Random() % ((uint64_t)delay_ms * 1000000u);
  delayed[delayed_count++] = (Delayed){due_ns, interface, slot, size, copy};
  if (slot >= 0) slots[slot].copies++;
  return true;
}

static void Send(int index) {
  Slot *slot = &slots[index];
  const Interface *interface = &interfaces[slot->interface];
  slot->tag = (tag_count++ << 13 | (uint32_t)index) & 0x7fffffff;
  WriteHeader(slot->frame, interface, interface->server, slot->initiator, 0, slot->tag);
  int timeout_ms = resend_ms << (slot->tries < 4 ? slot->tries : 4);
  if (timeout_ms > 2000) timeout_ms = 2000;
  slot->due_ns = Now() + (uint64_t)timeout_ms * 1000000u;
  for (int copies = 1 + Chance(duplicate_pct); copies > 0; copies--) {
    if (Chance(drop_pct)) continue;
    if (!Delay(slot->interface, index, slot->frame, slot->size)) {
      SendNow(slot->interface, slot->frame, slot->size);
    }
  }
}

// --- requests --------------------------------------------------------------------------------

static bool IsFree(uint32_t lba, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    if (in_flight[lba + i]) return false;
  }
  return true;
}

static bool Choose(Slot *slot) {
  static uint32_t next_to_check;
  if (checking) {
    if (next_to_check == sector_count) return false;
    const uint32_t left = sector_count - next_to_check;
    slot->count = left < sectors_max ? left : sectors_max;
    slot->lba = first_sector + next_to_check;
    next_to_check += slot->count;
    return true;
  }
  const uint32_t part = sector_count / (uint32_t)initiators;
  const uint32_t start = first_sector + part * (uint32_t)slot->initiator;
  for (int tries = 0; tries < 8; tries++) {
    slot->count = 1 + (uint32_t)(Random() % sectors_max);
    slot->lba = start + (uint32_t)(Random() % (part - slot->count + 1));
    if (overlapping || IsFree(slot->lba, slot->count)) return true;
  }
  return false;
}

static void Begin(int index) {
  Slot *slot = &slots[index];
  if (!Choose(slot)) return;
  slot->busy = true;
  slot->answered = false;
  slot->tries = 0;
  slot->writes = !checking && (int)(Random() % 100) < write_pct;
  slot->interface = (int)(Random() % (uint64_t)interface_count);
  slot->first_ns = Now();
  memset(&in_flight[slot->lba], 1, slot->count);
  memset(slot->frame, 0, 60);
  slot->frame[24] = slot->writes ? 0x41 : 0x40;
  slot->frame[26] = (uint8_t)slot->count;
  slot->frame[27] = slot->writes ? 0x34 : 0x24;
  for (int i = 0; i < 4; i++) slot->frame[28 + i] = (uint8_t)(slot->lba >> (8 * i));
  slot->size = 60;
  if (slot->writes) {
    slot->generation = ++generation;
    slot->size = kHeader + slot->count * kSector;
    for (uint32_t i = 0; i < slot->count; i++) {
      Stamp(slot->frame + kHeader + i * kSector, slot->lba + i, generation, acks);
      sectors[slot->lba + i].sent = generation;
    }
  }
  Send(index);
}

static void Finish(Slot *slot) {
  if (!slot->answered || slot->copies > 0) return;
  memset(&in_flight[slot->lba], 0, slot->count);
  slot->busy = false;
}

static void Acknowledge(const Slot *slot) {
  const uint32_t record[3] = {slot->lba, slot->count, slot->generation};
  for (uint32_t i = 0; i < slot->count; i++) sectors[slot->lba + i].acked = slot->generation;
  acks++;
  writes++;
  if (ack_log != NULL) fwrite(record, sizeof record, 1, ack_log);
}

static void Handle(int interface, const uint8_t *frame, size_t size) {
  if (size < kHeader || (frame[14] & 0x08) == 0 || frame[19] != 0) return;
  if (!IsFromTarget(frame)) return;
  const uint32_t tag = Get32(frame + 20);
  Slot *slot = &slots[tag & (kSlotMax - 1)];
  if (!slot->busy || slot->answered || slot->tag != tag) {
    late++;
    return;
  }
  const size_t due = slot->writes || (frame[27] & 0xa9) ? 60 : kHeader + slot->count * kSector;
  if (memcmp(frame + 6, interfaces[interface].server, 6) != 0 || frame[14] >> 4 != 1 ||
      size != (due < 60 ? 60 : due)) {
    if (frame[14] & 0x04) refused++;
    else malformed++;
    return;
  }
  if (frame[14] & 0x04) {  // Linux takes no notice of it and resends
    refused++;
    return;
  }
  slot->answered = true;
  const uint64_t us = (Now() - slot->first_ns) / 1000;
  if (latency_count < kLatencyMax) latencies_us[latency_count++] = (uint32_t)us;
  done_by[slot->initiator]++;
  if (frame[27] & 0xa9) {
    failed++;
    last_status = frame[27];
    last_error = frame[25];
  } else if (slot->writes) {
    Acknowledge(slot);
  } else {
    reads++;
    for (uint32_t i = 0; i < slot->count; i++) {
      Compare(frame + kHeader + i * kSector, slot->lba + i);
    }
  }
  Finish(slot);
}

static void Receive(void) {
  static uint8_t frame[1 << 16];
  for (int i = 0; i < interface_count; i++) {
    for (int turns = 0; turns < 256; turns++) {
      const ssize_t size = recv(interfaces[i].fd, frame, sizeof frame, 0);
      if (size < 0) break;
      if (Chance(drop_pct)) continue;
      for (int copies = 1 + Chance(duplicate_pct); copies > 0; copies--) {
        if (!Delay(i, -1, frame, (size_t)size)) Handle(i, frame, (size_t)size);
      }
    }
  }
}

static void DeliverDelayed(void) {
  const uint64_t now = Now();
  for (int i = 0; i < delayed_count;) {
    const Delayed due = delayed[i];
    if (due.due_ns > now) {
      i++;
      continue;
    }
    delayed[i] = delayed[--delayed_count];
    if (due.slot < 0) {
      Handle(due.interface, due.frame, due.size);
    } else {
      SendNow(due.interface, due.frame, due.size);
      slots[due.slot].copies--;
      if (slots[due.slot].busy) Finish(&slots[due.slot]);
    }
    free(due.frame);
  }
}

static void Resend(void) {
  const uint64_t now = Now();
  for (int i = 0; i < depth * initiators; i++) {
    Slot *slot = &slots[i];
    if (!slot->busy || slot->answered || slot->due_ns > now) continue;
    slot->interface = (slot->interface + 1) % interface_count;
    slot->tries++;
    resends++;
    Send(i);
  }
}

// Stops and continues the process, for 20 to 150 ms at a time; at the end it is running.
static void Pause(bool at_end) {
  static uint64_t due_ns;
  static bool is_stopped;
  if (paused_pid == 0 || (at_end ? !is_stopped : Now() < due_ns)) return;
  is_stopped = !is_stopped;
  kill(paused_pid, is_stopped ? SIGSTOP : SIGCONT);
  due_ns = Now() + (20 + Random() % 130) * 1000000u;
}

// --- the run ---------------------------------------------------------------------------------

// Sends a request on one interface until it is answered. `text` is a config string to set.
static size_t Ask(Interface *interface, const uint8_t *destination, int command, uint32_t tag,
                  const char *text, uint8_t *answer) {
  uint8_t frame[60] = {0};
  WriteHeader(frame, interface, destination, 0, command, tag);
  if (command == 0) {
    frame[26] = 1;
    frame[27] = 0xec;
  }
  if (text != NULL) {
    frame[29] = 0x14;
    frame[31] = (uint8_t)strlen(text);
    memcpy(frame + 32, text, strlen(text));
  }
  for (int tries = 0; tries < 100; tries++) {
    if (send(interface->fd, frame, sizeof frame, 0) < 0 && errno != ENOBUFS) Die("send");
    const uint64_t end = Now() + 200000000u;
    while (Now() < end) {
      struct pollfd readable = {interface->fd, POLLIN, 0};
      if (poll(&readable, 1, 50) <= 0) continue;
      const ssize_t size = recv(interface->fd, answer, kFrameMax, 0);
      const bool is_ours = size >= kHeader && (answer[14] & 8) && IsFromTarget(answer);
      if (is_ours && answer[19] == command && Get32(answer + 20) == tag) return (size_t)size;
    }
  }
  fprintf(stderr, "verify: no answer from e%d.%d\n", shelf, slot_number);
  exit(3);
}

static uint32_t Discover(void) {
  static const uint8_t everybody[6] = {255, 255, 255, 255, 255, 255};
  static uint8_t answer[kFrameMax];
  uint64_t size = 0;
  for (int i = 0; i < interface_count; i++) {
    Ask(&interfaces[i], everybody, 1, 0x7fff0001, NULL, answer);
    memcpy(interfaces[i].server, answer + 6, 6);
    server_buffers = answer[24] << 8 | answer[25];
    const int fitting = answer[28];
    if (server_sectors == 0 || fitting < server_sectors) server_sectors = fitting;
    Ask(&interfaces[i], interfaces[i].server, 0, 0x7fff0002, NULL, answer);
    size = 0;
    for (int byte = 5; byte >= 0; byte--) size = size << 8 | answer[kHeader + 200 + byte];
  }
  return (uint32_t)size;
}

// Where something is wrong already, nothing is gained by going on.
static bool IsShort(void) { return writes < writes_min && failed == 0 && wrong == 0; }

static void Configure(void) {
  static uint8_t answer[kFrameMax];
  const uint64_t end = Now() + (uint64_t)seconds * 1000000000u;
  for (uint32_t number = first_sector; (Now() < end || IsShort()) && refused == 0; number++) {
    char text[16];
    snprintf(text, sizeof text, "%u", number);
    Ask(&interfaces[0], interfaces[0].server, 1, 0x10000000 + number, text, answer);
    if (answer[14] & 0x04) refused++;
    else writes++;
    last_error = answer[15];
  }
}

static void Run(void) {
  const uint64_t start = Now();
  uint64_t end = start + (uint64_t)seconds * 1000000000u;
  uint64_t next_scan = 0;
  for (;;) {
    const uint64_t now = Now();
    if (now >= end && IsShort()) end = now + 1;
    const uint64_t give_up = end + (uint64_t)patience * 1000000000u;
    int busy = 0;
    for (int i = 0; i < depth * initiators; i++) {
      if (!slots[i].busy && (checking || now < end)) Begin(i);
      busy += slots[i].busy;
    }
    if ((busy == 0 && (checking || now >= end)) || now >= give_up) break;
    struct pollfd readable[kInterfaceMax];
    for (int i = 0; i < interface_count; i++) readable[i] = (struct pollfd){interfaces[i].fd, POLLIN, 0};
    poll(readable, (nfds_t)interface_count, 1);
    Receive();
    DeliverDelayed();
    Pause(now >= end);
    if (now < next_scan) continue;
    next_scan = now + 2000000u;
    Resend();
  }
}

static int Ascending(const void *a, const void *b) {
  const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return x < y ? -1 : x > y;
}

static double LatencyMs(double part) {
  if (latency_count == 0) return 0;
  return latencies_us[(uint64_t)(part * (double)(latency_count - 1))] / 1000.0;
}

static int Report(void) {
  int unanswered = 0;
  uint32_t least = UINT32_MAX;
  for (int i = 0; i < depth * initiators; i++) unanswered += slots[i].busy && !slots[i].answered;
  for (int i = 0; i < initiators; i++) least = done_by[i] < least ? done_by[i] : least;
  qsort(latencies_us, latency_count, sizeof *latencies_us, Ascending);
  printf("{\"reads\":%llu,\"writes\":%llu,\"resends\":%llu,\"late\":%llu,\"wrong\":%llu,"
         "\"failed\":%llu,\"refused\":%llu,\"malformed\":%llu,\"unanswered\":%d,"
         "\"leastByInitiator\":%u,\"p50Ms\":%.3f,\"p99Ms\":%.3f,\"p999Ms\":%.3f,\"maxMs\":%.3f,"
         "\"lastStatus\":%d,\"lastError\":%d,\"bufferCount\":%d,\"sectorsPerFrame\":%d}\n",
         (unsigned long long)reads, (unsigned long long)writes, (unsigned long long)resends,
         (unsigned long long)late, (unsigned long long)wrong, (unsigned long long)failed,
         (unsigned long long)refused, (unsigned long long)malformed, unanswered, least,
         LatencyMs(.5), LatencyMs(.99), LatencyMs(.999), LatencyMs(1), last_status, last_error,
         server_buffers, server_sectors);
  return wrong > 0 || malformed > 0 || (!errors_pass && (failed > 0 || unanswered > 0));
}

int main(int argc, char **argv) {
  const char *journal = NULL;
  int option;
  while ((option = getopt(argc, argv, "t:q:m:n:o:s:w:i:T:l:d:y:D:p:j:a:cxkeg:S:")) != -1) {
    switch (option) {
      case 't': seconds = atoi(optarg); break;
      case 'q': depth = atoi(optarg); break;
      case 'm': writes_min = (uint64_t)atoll(optarg); break;
      case 'n': sectors_max = (uint32_t)atoi(optarg); break;
      case 'o': first_sector = (uint32_t)atoi(optarg); break;
      case 's': sector_count = (uint32_t)atoi(optarg); break;
      case 'w': write_pct = atoi(optarg); break;
      case 'i': initiators = atoi(optarg); break;
      case 'T': resend_ms = atoi(optarg); break;
      case 'l': drop_pct = atof(optarg); break;
      case 'd': duplicate_pct = atof(optarg); break;
      case 'y': delay_pct = atof(optarg); break;
      case 'D': delay_ms = atoi(optarg); break;
      case 'p': paused_pid = atoi(optarg); break;
      case 'j': journal = optarg; break;
      case 'a': ack_log = fopen(optarg, "a"); break;
      case 'c': checking = true; break;
      case 'x': overlapping = true; break;
      case 'k': configuring = true; break;
      case 'e': errors_pass = true; break;
      case 'g': patience = atoi(optarg); break;
      case 'S': random_state ^= (uint64_t)atoi(optarg) * 0x9e3779b97f4a7c15u; break;
      default: return 2;
    }
  }
  if (argc - optind < 2 || argc - optind > 1 + kInterfaceMax ||
      sscanf(argv[optind], "%d.%d", &shelf, &slot_number) != 2 || depth * initiators > kSlotMax) {
    fprintf(stderr, "usage: verify [options] SHELF.SLOT INTERFACE...\n");
    return 2;
  }
  for (int i = optind + 1; i < argc; i++) OpenInterface(argv[i]);
  const uint32_t size = Discover();
  if (sector_count == 0) sector_count = size - first_sector;
  if (sectors_max == 0 || sectors_max > (uint32_t)server_sectors) {
    sectors_max = (uint32_t)server_sectors;
  }
  if (sectors_max > sector_count / (uint32_t)initiators) {
    sectors_max = sector_count / (uint32_t)initiators;
  }
  MapJournal(journal, size);
  in_flight = calloc(size, 1);
  slots = calloc(kSlotMax, sizeof *slots);
  latencies_us = malloc(kLatencyMax * sizeof *latencies_us);
  done_by = calloc((size_t)initiators, sizeof *done_by);
  for (int i = 0; i < depth * initiators; i++) slots[i].initiator = i % initiators;
  if (overlapping) write_pct = 100;
  if (configuring) Configure();
  else Run();
  for (uint32_t i = 0; overlapping && i < size; i++) sectors[i].acked = sectors[i].sent;
  if (ack_log != NULL) fclose(ack_log);
  return Report();
}
