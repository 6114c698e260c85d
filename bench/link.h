// Packet sockets for AoE frames. Every error ends the program.
#pragma once

#include "aoe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

enum { SOCKET_BUFFER_SIZE = 256 << 20 };

static inline void set_option(int fd, int level, int option, int value) {
  if (setsockopt(fd, level, option, &value, sizeof value) < 0) fail("setsockopt");
}

// A protocol of 0 makes a socket that only sends.
static inline int open_socket(const char *interface, uint16_t protocol) {
  int fd = socket(AF_PACKET, SOCK_RAW, 0);
  if (fd < 0) fail("socket");
  set_option(fd, SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BUFFER_SIZE);
  set_option(fd, SOL_SOCKET, SO_SNDBUFFORCE, SOCKET_BUFFER_SIZE);
  set_option(fd, SOL_PACKET, PACKET_QDISC_BYPASS, 1);
  set_option(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1);
  int index = (int)if_nametoindex(interface);
  if (index == 0) fail(interface);
  struct sockaddr_ll address = {
      .sll_family = AF_PACKET, .sll_protocol = htons(protocol), .sll_ifindex = index};
  if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) fail("bind");
  return fd;
}

static inline void read_mac(int fd, const char *interface, uint8_t *mac) {
  struct ifreq request = {0};
  snprintf(request.ifr_name, IFNAMSIZ, "%s", interface);
  if (ioctl(fd, SIOCGIFHWADDR, &request) < 0) fail("SIOCGIFHWADDR");
  memcpy(mac, request.ifr_hwaddr.sa_data, 6);
}

static inline int read_mtu(int fd, const char *interface) {
  struct ifreq request = {0};
  snprintf(request.ifr_name, IFNAMSIZ, "%s", interface);
  if (ioctl(fd, SIOCGIFMTU, &request) < 0) fail("SIOCGIFMTU");
  return request.ifr_mtu;
}

static inline void wait_for(int fd, short events, int timeout_ms) {
  struct pollfd ready = {.fd = fd, .events = events};
  if (poll(&ready, 1, timeout_ms) < 0 && errno != EINTR) fail("poll");
}

static inline void send_all(int fd, struct mmsghdr *messages, unsigned count) {
  for (unsigned sent = 0; sent < count;) {
    int result = sendmmsg(fd, messages + sent, count - sent, 0);
    if (result > 0) {
      sent += (unsigned)result;
    } else if (errno == EAGAIN || errno == ENOBUFS) {
      wait_for(fd, POLLOUT, 1);
    } else if (errno != EINTR) {
      fail("sendmmsg");
    }
  }
}
