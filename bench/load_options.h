// The command line of load.c.
#pragma once

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SECTORS_MAX = 17, INITIATORS_MAX = 64 };

enum content { UNIQUE, DUPLICATE, COMPRESSIBLE };

static struct {
  const char *interface, *targets;
  bool sequential, verify;
  enum content content;
  unsigned write_percent;
  unsigned sectors, depth, initiators, timeout_ms, wait_seconds;
  double warmup_seconds, seconds;
  uint64_t range_size;  // bytes used of each target, 0 for all
  uint64_t seed;
} options = {
    .sectors = 8,
    .depth = 16,
    .initiators = 1,
    .timeout_ms = 200,
    .wait_seconds = 10,
    .warmup_seconds = 0.5,
    .seconds = 3,
    .seed = 1,
};

static const char usage[] =
    "usage: load --interface NAME --targets SHELF.SLOT[-SLOT],... [options]\n"
    "  --mode MODE       read, write, mixed (70 % reads) or verify (half reads)\n"
    "  --access ACCESS   rand or seq\n"
    "  --content CONTENT of what is written: unique, duplicate or compressible\n"
    "  --sectors N       of 512 bytes in a request\n"
    "  --depth N         requests in flight from each initiator to each target\n"
    "  --initiators N    source MACs\n"
    "  --range BYTES     use only the beginning of each target\n"
    "  --warmup SECONDS  before measuring\n"
    "  --seconds SECONDS to measure; 0 ends when all targets have answered\n"
    "  --timeout MS      after which a request is resent\n"
    "  --wait SECONDS    for the targets to appear\n"
    "  --seed N          of the random sequence\n";

_Noreturn static void quit(const char *message) {
  fprintf(stderr, "load: %s\n", message);
  exit(2);
}

static void apply_mode(const char *mode) {
  static const struct {
    const char *name;
    unsigned write_percent;
  } modes[] = {{"read", 0}, {"write", 100}, {"mixed", 30}, {"verify", 50}};
  for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
    if (strcmp(modes[i].name, mode) != 0) continue;
    options.write_percent = modes[i].write_percent;
    options.verify = strcmp(mode, "verify") == 0;
    return;
  }
  quit("modes are read, write, mixed and verify");
}

static void apply_access(const char *access) {
  options.sequential = strcmp(access, "seq") == 0;
  if (!options.sequential && strcmp(access, "rand") != 0) quit("accesses are rand and seq");
}

static void apply_content(const char *content) {
  static const char *const names[] = {"unique", "duplicate", "compressible"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    if (strcmp(names[i], content) != 0) continue;
    options.content = (enum content)i;
    return;
  }
  quit("contents are unique, duplicate and compressible");
}

static void parse_options(int argc, char **argv) {
  static const struct option names[] = {
      {"interface", 1, 0, 'i'}, {"targets", 1, 0, 't'}, {"mode", 1, 0, 'm'},
      {"access", 1, 0, 'a'},    {"content", 1, 0, 'C'}, {"sectors", 1, 0, 'n'},
      {"depth", 1, 0, 'q'},     {"initiators", 1, 0, 'c'}, {"range", 1, 0, 'r'},
      {"warmup", 1, 0, 'w'},    {"seconds", 1, 0, 's'}, {"timeout", 1, 0, 'T'},
      {"wait", 1, 0, 'W'},      {"seed", 1, 0, 'S'},    {0, 0, 0, 0},
  };
  for (int name; (name = getopt_long(argc, argv, "", names, NULL)) != -1;) {
    switch (name) {
      case 'i': options.interface = optarg; break;
      case 't': options.targets = optarg; break;
      case 'm': apply_mode(optarg); break;
      case 'a': apply_access(optarg); break;
      case 'C': apply_content(optarg); break;
      case 'n': options.sectors = (unsigned)atoi(optarg); break;
      case 'q': options.depth = (unsigned)atoi(optarg); break;
      case 'c': options.initiators = (unsigned)atoi(optarg); break;
      case 'r': options.range_size = strtoull(optarg, NULL, 0); break;
      case 'w': options.warmup_seconds = atof(optarg); break;
      case 's': options.seconds = atof(optarg); break;
      case 'T': options.timeout_ms = (unsigned)atoi(optarg); break;
      case 'W': options.wait_seconds = (unsigned)atoi(optarg); break;
      case 'S': options.seed = strtoull(optarg, NULL, 0); break;
      default: quit(usage);
    }
  }
  if (optind != argc || options.interface == NULL || options.targets == NULL) quit(usage);
  if (options.verify && options.content == DUPLICATE) quit("duplicates cannot be told apart");
  if (options.sectors < 1 || options.sectors > SECTORS_MAX) quit("sectors are from 1 to 17");
  if (options.depth < 1) quit("depth is at least 1");
  if (options.initiators < 1 || options.initiators > INITIATORS_MAX) quit("initiators are 1 to 64");
}
