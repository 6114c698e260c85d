{
  "targets": [
    {
      "target_name": "aoe_native",
      "sources": [
        "native/addon.cpp",
        "native/file_ring.cpp",
        "native/files.cpp",
        "native/interface_watch.cpp",
        "native/packet_ring.cpp",
        "native/packet_socket.cpp",
        "native/poll_watch.cpp",
        "native/system_error.cpp",
        "native/worker_pool.cpp"
      ],
      "defines": ["NAPI_VERSION=9", "NODE_ADDON_API_DISABLE_DEPRECATED", "NAPI_DISABLE_CPP_EXCEPTIONS"],
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
      "libraries": ["-luring"]
    }
  ]
}
