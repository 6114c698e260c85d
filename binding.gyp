{
  "targets": [
    {
      "target_name": "aoe_native",
      "sources": [
        "native/addon.cpp",
        "native/blake3/blake3.c",
        "native/blake3/blake3_dispatch.c",
        "native/blake3/blake3_portable.c",
        "native/cached_stretches.cpp",
        "native/cas/block_hash.cpp",
        "native/cas/cas_engine.cpp",
        "native/cas/dedup_index.cpp",
        "native/cas/engine.cpp",
        "native/cas/entry_reader.cpp",
        "native/cas/frame.cpp",
        "native/cas/frame_index.cpp",
        "native/cas/known_frames.cpp",
        "native/cas/record.cpp",
        "native/cas/record_layout.cpp",
        "native/cas/segment_sources.cpp",
        "native/file_ring.cpp",
        "native/file_system.cpp",
        "native/file_tasks.cpp",
        "native/files.cpp",
        "native/image_lock.cpp",
        "native/interface_watch.cpp",
        "native/network_interface.cpp",
        "native/packet_ring.cpp",
        "native/packet_socket.cpp",
        "native/poll_watch.cpp",
        "native/privileges.cpp",
        "native/service_manager.cpp",
        "native/system_error.cpp",
        "native/task_threads.cpp",
        "native/uring.cpp",
        "native/worker_pool.cpp"
      ],
      "defines": [
        "NAPI_VERSION=9",
        "NODE_ADDON_API_DISABLE_DEPRECATED",
        "NAPI_DISABLE_CPP_EXCEPTIONS",
        "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"
      ],
      "cflags": ["-isystem", "<!(node -p \"require('node:path').resolve(require('node-addon-api').include_dir)\")"],
      "cflags_cc!": ["-std=gnu++17"],
      "cflags_cc": [
        "-std=gnu++20",
        "-fvisibility=hidden",
        "-Wall",
        "-Wextra",
        "-Wshadow",
        "-Wconversion",
        "-Wno-missing-field-initializers"
      ],
      "libraries": ["-llz4", "-luring"],
      "ldflags": ["-Wl,-z,nodelete"],
      "conditions": [
        ["target_arch=='x64'", {
          "sources": [
            "native/blake3/blake3_sse2_x86-64_unix.S",
            "native/blake3/blake3_sse41_x86-64_unix.S",
            "native/blake3/blake3_avx2_x86-64_unix.S",
            "native/blake3/blake3_avx512_x86-64_unix.S"
          ]
        }],
        ["target_arch=='arm64'", { "sources": ["native/blake3/blake3_neon.c"] }]
      ]
    }
  ]
}
