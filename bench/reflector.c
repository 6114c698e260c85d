// reflector: an AoE target without storage, the floor that no server can get below.
//
//   reflector [--ring] [--image FILE] INTERFACE
//
// It answers for every shelf and slot. Reads return the same bytes whatever the LBA, writes are
// received and forgotten. By default frames come by recvmmsg; --ring takes them from a
// TPACKET_V2 ring, as aoe-server does. Both send by sendmmsg past the queueing discipline, and have the
// kernel keep frames in the memory that is fastest for them (see native/packet_ring.cpp).
//
// With --image it reads and writes FILE, by one system call a request, and nothing else: no bounds,
// no order, no durability. That is what is left of a server's time when all of it is in C.

#define _GNU_SOURCE
#include "link.h"

#include <fcntl.h>
#include <linux/virtio_net.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
  RING_SLOT_SIZE = 16384,
  RING_SLOT_COUNT = 2048,
  RING_BLOCK_SIZE = 1 << 20,
  BUFFER_COUNT = 64,
  PAGE_SIZE = 4096,
  // Of data in a page: where the kernel copies it to another page fast (see src/core/request-pool.ts).
  DATA_OFFSET = 512,
  HEADERS_MAX = sizeof(struct frame) + 15 * SECTOR_SIZE,
};

static int receiver, sender;
static int image = -1;
static uint32_t device_sectors = 1 << 24;
static int mtu;
static uint8_t mac[6];

static struct frame *replies[BATCH];
static struct iovec reply_vectors[BATCH];
static struct mmsghdr reply_messages[BATCH];
static unsigned reply_count;

static void open_sockets(const char *interface) {
  receiver = open_socket(interface, ETHERTYPE_AOE);
  sender = open_socket(interface, 0);
  set_option(sender, SOL_PACKET, PACKET_VNET_HDR, 1);
  read_mac(receiver, interface, mac);
  mtu = read_mtu(receiver, interface);
}

static void open_image(const char *path) {
  image = open(path, O_RDWR);
  if (image < 0) fail(path);
  device_sectors = (uint32_t)(lseek(image, 0, SEEK_END) / SECTOR_SIZE);
}

static void prepare_replies(void) {
  for (int i = 0; i < BATCH; i++) {
    uint8_t *memory = aligned_alloc(PAGE_SIZE, 3 * PAGE_SIZE);
    if (memory == NULL) fail("aligned_alloc");
    memset(memory, 0, 3 * PAGE_SIZE);
    replies[i] = (struct frame *)(memory + DATA_OFFSET - sizeof(struct frame));
    reply_vectors[i].iov_base = (struct virtio_net_hdr *)replies[i] - 1;
    reply_messages[i].msg_hdr =
        (struct msghdr){.msg_iov = &reply_vectors[i], .msg_iovlen = 1};
  }
}

static void send_replies(void) {
  send_all(sender, reply_messages, reply_count);
  reply_count = 0;
}

static uint8_t sectors_max(void) {
  return (uint8_t)((mtu - (int)(sizeof(struct frame) - 14)) / SECTOR_SIZE);
}

static size_t identify(struct frame *reply) {
  memset(reply->data, 0, SECTOR_SIZE);
  uint16_t *words = (uint16_t *)reply->data;
  words[49] = htole16(0x0200);  // LBA
  words[83] = htole16(0x4400);  // LBA48
  words[86] = htole16(0x0400);
  words[60] = words[100] = htole16(device_sectors & 0xFFFF);
  words[61] = words[101] = htole16(device_sectors >> 16);
  return sizeof *reply + SECTOR_SIZE;
}

static size_t answer_config(struct frame *reply) {
  reply->config.buffer_count = htons(BUFFER_COUNT);
  reply->config.firmware = 0;
  reply->config.sector_count = sectors_max();
  reply->config.version_command = AOE_VERSION_1;
  reply->config.length = 0;
  return FRAME_SIZE_MIN;
}

static off_t offset_of(const struct frame *request) {
  uint64_t lba = 0;
  memcpy(&lba, request->ata.lba, sizeof request->ata.lba);
  return (off_t)(le64toh(lba) * SECTOR_SIZE);
}

// Returns the size of the reply, in bytes; 0 for a request that gets none.
static size_t answer_ata(const struct frame *request, struct frame *reply) {
  size_t size = (size_t)request->ata.sector_count * SECTOR_SIZE;
  memset(&reply->ata, 0, sizeof reply->ata);
  reply->ata.command_status = ATA_READY;
  switch (request->ata.command_status) {
    case ATA_IDENTIFY_DEVICE:
      return identify(reply);
    case ATA_READ_SECTORS:
    case ATA_READ_SECTORS_EXT:
      if (request->ata.sector_count > sectors_max()) return 0;
      if (image >= 0 && pread(image, reply->data, size, offset_of(request)) < 0) fail("pread");
      return sizeof *reply + size;
    case ATA_WRITE_SECTORS:
    case ATA_WRITE_SECTORS_EXT:
      if (image >= 0 && pwrite(image, request->data, size, offset_of(request)) < 0) fail("pwrite");
      return FRAME_SIZE_MIN;
    default:
      return 0;
  }
}

static void answer(const struct frame *request, size_t size) {
  if (size < REQUEST_SIZE_MIN || (request->version_flags & AOE_RESPONSE)) return;
  struct frame *reply = replies[reply_count];
  memcpy(reply->destination, request->source, 6);
  memcpy(reply->source, mac, 6);
  reply->ethertype = htons(ETHERTYPE_AOE);
  reply->version_flags = AOE_VERSION_1 | AOE_RESPONSE;
  reply->shelf = request->shelf;
  reply->slot = request->slot;
  reply->command = request->command;
  reply->tag = request->tag;

  size_t reply_size = 0;
  if (request->command == AOE_CONFIG) reply_size = answer_config(reply);
  if (request->command == AOE_ATA) reply_size = answer_ata(request, reply);
  if (reply_size == 0) return;
  struct virtio_net_hdr *header = reply_vectors[reply_count].iov_base;
  header->hdr_len = (uint16_t)(reply_size < HEADERS_MAX ? reply_size : HEADERS_MAX);
  reply_vectors[reply_count].iov_len = sizeof *header + reply_size;
  if (++reply_count == BATCH) send_replies();
}

_Noreturn static void reflect_by_recvmmsg(void) {
  static uint8_t slab[BATCH][FRAME_SIZE_MAX];
  struct iovec vectors[BATCH];
  struct mmsghdr messages[BATCH];
  for (int i = 0; i < BATCH; i++) {
    vectors[i] = (struct iovec){.iov_base = slab[i], .iov_len = FRAME_SIZE_MAX};
    messages[i].msg_hdr = (struct msghdr){.msg_iov = &vectors[i], .msg_iovlen = 1};
  }
  for (;;) {
    int count = recvmmsg(receiver, messages, BATCH, MSG_DONTWAIT, NULL);
    if (count < 0 && errno != EAGAIN && errno != EINTR) fail("recvmmsg");
    if (count <= 0) wait_for(receiver, POLLIN, -1);
    for (int i = 0; i < count; i++) answer((struct frame *)slab[i], messages[i].msg_len);
    send_replies();
  }
}

static uint8_t *map_ring(void) {
  set_option(receiver, SOL_PACKET, PACKET_VERSION, TPACKET_V2);
  struct tpacket_req ring = {
      .tp_block_size = RING_BLOCK_SIZE,
      .tp_block_nr = RING_SLOT_COUNT / (RING_BLOCK_SIZE / RING_SLOT_SIZE),
      .tp_frame_size = RING_SLOT_SIZE,
      .tp_frame_nr = RING_SLOT_COUNT,
  };
  if (setsockopt(receiver, SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring) < 0) fail("ring");
  size_t size = (size_t)RING_SLOT_COUNT * RING_SLOT_SIZE;
  uint8_t *memory =
      mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, receiver, 0);
  if (memory == MAP_FAILED) fail("mmap");
  return memory;
}

_Noreturn static void reflect_by_ring(void) {
  uint8_t *memory = map_ring();
  for (unsigned index = 0, taken = 0;;) {
    struct tpacket2_hdr *slot = (void *)(memory + (size_t)index * RING_SLOT_SIZE);
    if (__atomic_load_n(&slot->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER) {
      answer((struct frame *)((uint8_t *)slot + slot->tp_mac), slot->tp_snaplen);
      __atomic_store_n(&slot->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
      index = (index + 1) % RING_SLOT_COUNT;
      if (++taken < BATCH) continue;
    } else if (taken == 0) {
      wait_for(receiver, POLLIN, -1);
    }
    send_replies();
    taken = 0;
  }
}

int main(int argc, char **argv) {
  int by_ring = 0;
  int next = 1;
  for (; next < argc - 1; next++) {
    if (strcmp(argv[next], "--ring") == 0) {
      by_ring = 1;
    } else if (strcmp(argv[next], "--image") == 0 && next < argc - 2) {
      open_image(argv[++next]);
    } else {
      break;
    }
  }
  if (next != argc - 1) {
    fprintf(stderr, "usage: reflector [--ring] [--image FILE] INTERFACE\n");
    return 2;
  }
  open_sockets(argv[next]);
  prepare_replies();
  if (by_ring) reflect_by_ring();
  reflect_by_recvmmsg();
}
