// load: keeps AoE targets busy, measures how they answer and prints one line of JSON.
//
//   load --interface NAME --targets 1.0,2.0-7 [options]          (see load_options.h)
//
// Every initiator keeps `depth` requests in flight to every target; an answered request is
// replaced at once. Latency runs from the first time a request is sent to its reply, however
// often it is resent. Each initiator has a source MAC of its own, all on one socket.
//
// The phases: fill (verify only) -> warm-up -> measure -> drain. Rates and latencies are of
// requests answered while measuring; `requests_total` counts all of them, for dividing CPU time.
//
// This program must not be what is measured: it takes one time stamp a batch, receives only the
// headers of replies unless it verifies them, and writes 24 bytes of each sector it sends.
//
// Without those 24 bytes requests write the same data each time: as many different contents as there
// are requests in flight.
//
// verify: every sector carries its LBA, target and generation (stamp.h). A read must bring the
// generation acknowledged last.

#define _GNU_SOURCE
#include "aoe.h"
#include "histogram.h"
#include "link.h"
#include "load_options.h"
#include "stamp.h"

#include <stdbool.h>
#include <sys/resource.h>

enum {
  TARGETS_MAX = 256,
  TAG_INDEX_BITS = 14,
  REQUESTS_MAX = 1 << TAG_INDEX_BITS,
  TAG_MASK = 0x7FFFFFFF,  // bit 31 is for user space tools by convention, not for block I/O
  BLOCK_SIZE = 4096,  // of what stores of blocks compare and compress
  HEADER_SIZE = 64,  // what is received of a reply that is not verified
  RESEND_CHECK_MS = 5,
  DISCOVERY_RESEND_MS = 50,
  DRAIN_SECONDS = 5,
};

struct target {
  uint16_t shelf;
  uint8_t slot;
  uint8_t mac[6];
  uint64_t spot_count;  // a spot is a place for one request: `sectors` sectors
  uint64_t cursor;      // the next spot in sequence
  uint64_t filled;      // spots written by the fill phase
  uint32_t *generations;  // of each spot, as acknowledged (verify)
  bool *busy;             // spots with a request in flight (verify)
};

struct request {
  struct frame *frame;
  struct target *target;
  uint64_t spot;
  uint64_t first_sent_ns;  // 0 until sent
  uint64_t last_sent_ns;
  uint32_t tag;
  uint32_t generation;
  bool write, in_flight;
};

enum phase { FILL, WARM_UP, MEASURE, DRAIN };

static int link_fd;
static uint8_t initiator_macs[INITIATORS_MAX][6];
static struct target targets[TARGETS_MAX];
static unsigned target_count;
static struct request requests[REQUESTS_MAX];
static unsigned request_count, in_flight_count;
static enum phase phase;
static uint64_t random_state;
static uint32_t generation_count;

static struct {
  uint64_t reads, writes, resent, stray, errors, wrong, latency_max_ns;
  struct histogram latencies;
} measured;
static uint64_t answered_total;

static uint8_t incoming_frames[BATCH][FRAME_SIZE_MAX];
static struct mmsghdr incoming[BATCH];
static struct mmsghdr outgoing[BATCH];
static struct iovec outgoing_vectors[BATCH];
static struct request *outgoing_requests[BATCH];
static unsigned outgoing_count;

static uint64_t random_below(uint64_t limit) {
  random_state ^= random_state >> 12;
  random_state ^= random_state << 25;
  random_state ^= random_state >> 27;
  uint64_t value = random_state * 0x2545F4914F6CDD1Du;
  return (uint64_t)(((__uint128_t)value * limit) >> 64);
}

static void open_link(void) {
  link_fd = open_socket(options.interface, ETHERTYPE_AOE);
  for (unsigned i = 0; i < options.initiators; i++) {
    read_mac(link_fd, options.interface, initiator_macs[i]);
    initiator_macs[i][5] ^= (uint8_t)i;
  }
}

static void list_targets(void) {
  char *copy = strdup(options.targets), *rest = copy;
  for (char *item; (item = strsep(&rest, ",")) != NULL;) {
    unsigned shelf, first, last;
    int fields = sscanf(item, "%u.%u-%u", &shelf, &first, &last);
    if (fields < 2) quit("targets are SHELF.SLOT or SHELF.SLOT-SLOT");
    if (fields == 2) last = first;
    if (shelf > 0xFFFE || last > 0xFE || first > last) quit("no such shelf or slot");
    for (unsigned slot = first; slot <= last; slot++) {
      if (target_count == TARGETS_MAX) quit("too many targets");
      targets[target_count++] = (struct target){.shelf = (uint16_t)shelf, .slot = (uint8_t)slot};
    }
  }
  free(copy);
}

static void flush_outgoing(void) {
  if (outgoing_count == 0) return;
  uint64_t now = now_ns();
  for (unsigned i = 0; i < outgoing_count; i++) {
    struct request *request = outgoing_requests[i];
    request->last_sent_ns = now;
    if (request->first_sent_ns == 0) request->first_sent_ns = now;
  }
  send_all(link_fd, outgoing, outgoing_count);
  outgoing_count = 0;
}

static void send_request(struct request *request) {
  size_t data_size = request->write ? (size_t)options.sectors * SECTOR_SIZE : 0;
  size_t size = sizeof *request->frame + data_size;
  outgoing_vectors[outgoing_count] = (struct iovec){
      .iov_base = request->frame, .iov_len = size < FRAME_SIZE_MIN ? FRAME_SIZE_MIN : size};
  outgoing[outgoing_count].msg_hdr =
      (struct msghdr){.msg_iov = &outgoing_vectors[outgoing_count], .msg_iovlen = 1};
  outgoing_requests[outgoing_count] = request;
  if (++outgoing_count == BATCH) flush_outgoing();
}

static void address_frame(struct frame *frame, const struct target *target, const uint8_t *source) {
  memcpy(frame->destination, target->mac, 6);
  memcpy(frame->source, source, 6);
  frame->ethertype = htons(ETHERTYPE_AOE);
  frame->version_flags = AOE_VERSION_1;
  frame->shelf = htons(target->shelf);
  frame->slot = target->slot;
}

// Sends one request until it is answered. The reply stays valid until the next call.
static const struct frame *ask(const struct frame *request, const struct target *target,
                               size_t size_min) {
  static uint8_t buffer[FRAME_SIZE_MAX];
  struct frame *reply = (struct frame *)buffer;
  uint64_t deadline = now_ns() + options.wait_seconds * 1000000000ull;
  for (uint64_t now, resend = 0; (now = now_ns()) < deadline;) {
    if (now >= resend) {
      if (send(link_fd, request, FRAME_SIZE_MIN, 0) < 0) fail("send");
      resend = now + DISCOVERY_RESEND_MS * 1000000ull;
    }
    wait_for(link_fd, POLLIN, 1);
    ssize_t size = recv(link_fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (size >= (ssize_t)size_min && (reply->version_flags & AOE_RESPONSE) &&
        reply->tag == request->tag && reply->slot == target->slot && reply->shelf == request->shelf)
      return reply;
  }
  fprintf(stderr, "load: no answer from e%u.%u\n", target->shelf, target->slot);
  exit(3);
}

static uint64_t read_sector_count(const struct frame *reply) {
  const uint8_t *lba48 = reply->data + 200, *lba28 = reply->data + 120;
  uint64_t count = 0;
  for (int i = 5; i >= 0; i--) count = count << 8 | lba48[i];
  if (count != 0) return count;
  for (int i = 3; i >= 0; i--) count = count << 8 | lba28[i];
  return count;
}

static void discover(struct target *target) {
  uint8_t buffer[FRAME_SIZE_MIN] = {0};
  struct frame *request = (struct frame *)buffer;
  memset(target->mac, 0xFF, 6);
  address_frame(request, target, initiator_macs[0]);
  request->command = AOE_CONFIG;
  request->tag = htonl(1);
  const struct frame *reply = ask(request, target, REQUEST_SIZE_MIN);
  memcpy(target->mac, reply->source, 6);
  unsigned sectors_max = reply->config.sector_count ? reply->config.sector_count : 2;
  if (options.sectors > sectors_max) quit("the target takes fewer sectors in a request");

  address_frame(request, target, initiator_macs[0]);
  request->command = AOE_ATA;
  request->tag = htonl(2);
  memset(&request->ata, 0, sizeof request->ata);
  request->ata.sector_count = 1;
  request->ata.command_status = ATA_IDENTIFY_DEVICE;
  reply = ask(request, target, sizeof *reply + SECTOR_SIZE);
  uint64_t sector_count = read_sector_count(reply);
  uint64_t range_sectors = options.range_size / SECTOR_SIZE;
  if (range_sectors != 0 && range_sectors < sector_count) sector_count = range_sectors;
  target->spot_count = sector_count / options.sectors;
  // A random spot that is not busy must be found at once.
  uint64_t depth = (uint64_t)options.depth * options.initiators;
  if (target->spot_count < (options.verify ? 4 * depth : 1)) quit("the target is too small");
  if (!options.verify) return;
  target->generations = calloc(target->spot_count, sizeof *target->generations);
  target->busy = calloc(target->spot_count, sizeof *target->busy);
  if (target->generations == NULL || target->busy == NULL) fail("calloc");
}

static uint64_t owner_of(const struct request *request, uint32_t generation) {
  return (uint64_t)generation << 32 | (uint64_t)request->target->shelf << 8 | request->target->slot;
}

static uint64_t choose_spot(struct target *target) {
  for (;;) {
    uint64_t spot = options.sequential ? target->cursor++ % target->spot_count
                               : random_below(target->spot_count);
    if (!options.verify || !target->busy[spot]) return spot;
  }
}

static void start_request(struct request *request) {
  struct target *target = request->target;
  struct frame *frame = request->frame;
  if (phase == FILL && target->filled < target->spot_count) {
    request->spot = target->filled++;
    request->write = true;
  } else {
    request->spot = choose_spot(target);
    request->write = random_below(100) < options.write_percent;
  }
  uint32_t index = (uint32_t)(request - requests);
  request->tag = (((request->tag >> TAG_INDEX_BITS) + 1) << TAG_INDEX_BITS | index) & TAG_MASK;
  frame->tag = htonl(request->tag);
  frame->ata.flags = ATA_EXTENDED | (request->write ? ATA_WRITE : 0);
  frame->ata.command_status = request->write ? ATA_WRITE_SECTORS_EXT : ATA_READ_SECTORS_EXT;
  uint64_t lba = htole64(request->spot * options.sectors);
  memcpy(frame->ata.lba, &lba, sizeof frame->ata.lba);
  request->generation = ++generation_count;
  if (request->write && options.content != DUPLICATE) {
    uint64_t owner = owner_of(request, request->generation);
    stamp_sectors(frame->data, options.sectors, request->spot * options.sectors, owner);
  }
  if (options.verify) target->busy[request->spot] = true;
  request->first_sent_ns = 0;
  request->in_flight = true;
  in_flight_count++;
  send_request(request);
}

static void fill_data(uint8_t *data, size_t size) {
  // Of each block a third that cannot be compressed, and a text behind it.
  static const char text[] = "a line of text that repeats, ";
  for (size_t i = 0; i < size; i++) {
    bool is_text = options.content == COMPRESSIBLE && i % BLOCK_SIZE >= BLOCK_SIZE / 3;
    data[i] = is_text ? (uint8_t)text[i % (sizeof text - 1)] : (uint8_t)random_below(256);
  }
}

static void create_requests(void) {
  uint64_t count = (uint64_t)options.depth * options.initiators * target_count;
  if (count > REQUESTS_MAX) quit("too many requests in flight");
  for (unsigned t = 0; t < target_count; t++) {
    for (unsigned i = 0; i < options.initiators * options.depth; i++) {
      struct request *request = &requests[request_count++];
      size_t data_size = (size_t)options.sectors * SECTOR_SIZE;
      request->target = &targets[t];
      request->frame = calloc(1, sizeof *request->frame + data_size);
      if (request->frame == NULL) fail("calloc");
      fill_data(request->frame->data, data_size);
      address_frame(request->frame, request->target, initiator_macs[i % options.initiators]);
      request->frame->command = AOE_ATA;
      request->frame->ata.sector_count = (uint8_t)options.sectors;
    }
  }
}

static void resend_overdue(uint64_t now) {
  uint64_t timeout_ns = options.timeout_ms * 1000000ull;
  for (unsigned i = 0; i < request_count; i++) {
    struct request *request = &requests[i];
    if (!request->in_flight || now < request->last_sent_ns + timeout_ns) continue;
    measured.resent++;
    send_request(request);
  }
  flush_outgoing();
}

static bool data_is_right(const struct request *request, const struct frame *reply) {
  uint64_t owner = owner_of(request, request->target->generations[request->spot]);
  uint64_t lba = request->spot * options.sectors;
  return stamps_match(reply->data, options.sectors, lba, owner);
}

static void judge(const struct request *request, const struct frame *reply, size_t size) {
  size_t data_size = request->write ? 0 : (size_t)options.sectors * SECTOR_SIZE;
  if ((reply->version_flags & AOE_ERROR) || (reply->ata.command_status & ATA_FAILED)) {
    measured.errors++;
  } else if (size < sizeof *reply + data_size) {
    measured.wrong++;
  } else if (options.verify && request->write) {
    request->target->generations[request->spot] = request->generation;
  } else if (options.verify && !data_is_right(request, reply)) {
    measured.wrong++;
  }
}

static void count_answer(const struct request *request, uint64_t latency_ns) {
  histogram_add(&measured.latencies, latency_ns);
  if (latency_ns > measured.latency_max_ns) measured.latency_max_ns = latency_ns;
  if (request->write) {
    measured.writes++;
  } else {
    measured.reads++;
  }
}

static void take_reply(const struct frame *reply, size_t size, uint64_t now) {
  if (size < sizeof *reply || !(reply->version_flags & AOE_RESPONSE)) return;
  if (reply->command != AOE_ATA) return;
  uint32_t tag = ntohl(reply->tag), index = tag & (REQUESTS_MAX - 1);
  struct request *request = &requests[index];
  if (index >= request_count || !request->in_flight || request->tag != tag ||
      memcmp(reply->destination, request->frame->source, 6) != 0) {
    measured.stray++;
    return;
  }
  judge(request, reply, size);
  if (phase == MEASURE) count_answer(request, now - request->first_sent_ns);
  answered_total++;
  if (options.verify) request->target->busy[request->spot] = false;
  request->in_flight = false;
  in_flight_count--;
  if (phase != DRAIN) start_request(request);
}

static void prepare_incoming(void) {
  static struct iovec vectors[BATCH];
  for (int i = 0; i < BATCH; i++) {
    vectors[i].iov_base = incoming_frames[i];
    vectors[i].iov_len = options.verify ? FRAME_SIZE_MAX : HEADER_SIZE;
    incoming[i].msg_hdr = (struct msghdr){.msg_iov = &vectors[i], .msg_iovlen = 1};
  }
}

static void receive_replies(void) {
  // With MSG_TRUNC msg_len is the size of the frame, not of what was copied.
  int count = recvmmsg(link_fd, incoming, BATCH, MSG_DONTWAIT | MSG_TRUNC, NULL);
  if (count < 0 && errno != EAGAIN && errno != EINTR) fail("recvmmsg");
  if (count <= 0) {
    wait_for(link_fd, POLLIN, 1);
    return;
  }
  uint64_t now = now_ns();
  for (int i = 0; i < count; i++)
    take_reply((struct frame *)incoming_frames[i], incoming[i].msg_len, now);
  flush_outgoing();
}

static bool all_filled(void) {
  for (unsigned t = 0; t < target_count; t++)
    if (targets[t].filled < targets[t].spot_count) return false;
  return true;
}

static uint64_t seconds_ns(double seconds) { return (uint64_t)(seconds * 1e9); }

// Returns how long was measured, in seconds.
static double run(void) {
  uint64_t measure_from = 0, measure_to = 0, checked = now_ns();
  phase = options.verify ? FILL : WARM_UP;
  if (phase == WARM_UP) measure_from = checked + seconds_ns(options.warmup_seconds);
  for (unsigned i = 0; i < request_count; i++) start_request(&requests[i]);
  flush_outgoing();
  for (;;) {
    receive_replies();
    uint64_t now = now_ns();
    if (now > checked + RESEND_CHECK_MS * 1000000ull) {
      checked = now;
      resend_overdue(now);
    }
    if (phase == FILL && all_filled()) {
      phase = WARM_UP;
      measure_from = now + seconds_ns(options.warmup_seconds);
    } else if (phase == WARM_UP && now >= measure_from) {
      phase = MEASURE;
      measure_from = now;
      measure_to = now + seconds_ns(options.seconds);
    } else if (phase == MEASURE && now >= measure_to) {
      phase = DRAIN;
      measure_to = now;
    } else if (phase == DRAIN) {
      bool late = now > measure_to + seconds_ns(DRAIN_SECONDS);
      if (in_flight_count == 0 || late) return (double)(measure_to - measure_from) / 1e9;
    }
  }
}

static double percentile_us(double fraction) {
  return histogram_percentile(&measured.latencies, fraction) / 1e3;
}

static double cpu_seconds(void) {
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
         (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void print_result(double seconds, double cpu, double elapsed) {
  double requests_per_s =
      seconds > 0 ? (double)(measured.reads + measured.writes) / seconds : 0;
  printf("{\"seconds\":%.3f,\"requests_per_s\":%.0f,\"mb_per_s\":%.1f,", seconds, requests_per_s,
         requests_per_s * options.sectors * SECTOR_SIZE / 1e6);
  printf("\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f,", percentile_us(0.5),
         percentile_us(0.99), percentile_us(0.999), (double)measured.latency_max_ns / 1e3);
  printf("\"reads\":%llu,\"writes\":%llu,\"resent\":%llu,\"stray\":%llu,",
         (unsigned long long)measured.reads, (unsigned long long)measured.writes,
         (unsigned long long)measured.resent, (unsigned long long)measured.stray);
  printf("\"errors\":%llu,\"wrong\":%llu,\"unanswered\":%u,", (unsigned long long)measured.errors,
         (unsigned long long)measured.wrong, in_flight_count);
  printf("\"requests_total\":%llu,\"cpu_seconds\":%.3f,\"elapsed_seconds\":%.3f}\n",
         (unsigned long long)answered_total, cpu, elapsed);
}

int main(int argc, char **argv) {
  parse_options(argc, argv);
  random_state = options.seed * 0x9E3779B97F4A7C15u | 1;
  list_targets();
  open_link();
  for (unsigned t = 0; t < target_count; t++) discover(&targets[t]);
  double seconds = 0, cpu_before = 0;
  uint64_t begin = now_ns();
  if (options.seconds > 0) {
    create_requests();
    prepare_incoming();
    begin = now_ns();
    cpu_before = cpu_seconds();
    seconds = run();
  }
  print_result(seconds, cpu_seconds() - cpu_before, (double)(now_ns() - begin) / 1e9);
  return measured.errors || measured.wrong || in_flight_count ? 1 : 0;
}
