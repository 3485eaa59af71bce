// RocksDB's view of the world: an Env whose every file access goes through storage/file.h, so that
// the state view is lost, torn and failed by tests like everything else. Paths that RocksDB sees
// ("/view/CURRENT") are relative to the directory given. Threads and time are RocksDB's own.
// RocksDB writes no log files; its errors go to our log. Thread-safe.
#pragma once

#include <memory>

#include "storage/file.h"

namespace rocksdb {
class Env;
class Logger;
}  // namespace rocksdb

namespace polylog::storage {

/// The Env over `root`. It must outlive every database opened with it.
std::unique_ptr<rocksdb::Env> makeRocksdbEnv(std::shared_ptr<Directory> root);

/// Where RocksDB logs to: errors to our log as warnings, the rest nowhere.
std::shared_ptr<rocksdb::Logger> makeRocksdbLogger();

}  // namespace polylog::storage
