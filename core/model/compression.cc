#include "core/model/compression.h"

#define ZLIB_CONST
#include <lz4frame.h>
#include <snappy.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <limits>
#include <memory>

#include "core/base/byte_reader.h"
#include "core/base/byte_writer.h"

namespace polylog {
namespace {

/// zlib counts in 32 bits; no batch comes near.
constexpr size_t kLargest = std::numeric_limits<int32_t>::max();
constexpr size_t kFirstOutput = 4096;
constexpr int kGzipWindow = 15 + 16;  ///< largest window, gzip header
constexpr size_t kXerialBlock = 32 * 1024;
constexpr BytesView kXerialMagic("\x82SNAPPY\0", 8);
constexpr size_t kXerialHeader = 16;  ///< magic, version, oldest compatible version
/// What one octet of input can at most become: snappy's copy is 3 octets for 64, zstd's run-length
/// block 4 for 128 KiB. A claimed size beyond that is a lie and allocates nothing.
constexpr size_t kSnappyRatio = 32;
constexpr size_t kZstdRatio = 64 * 1024;

std::unexpected<Error> corrupt(const char* codec) {
  return fail(ErrorKind::kCorrupt, std::string(codec) + ": malformed compressed data");
}

std::unexpected<Error> tooLarge(const char* codec) {
  return fail(ErrorKind::kTooLarge, std::string(codec) + ": decompresses beyond its limit");
}

/// Changes the size without clearing what is new. (libstdc++ 12 passes the capacity as the second
/// argument, so it is not used.)
void resizeRaw(std::string& s, size_t size) {
  s.resize_and_overwrite(size, [size](char*, size_t) { return size; });
}

/// Output that grows as it fills, to one octet past the limit so that passing it shows. `made`
/// follows what is in it.
class GrowingOutput {
 public:
  GrowingOutput(size_t input, size_t limit, size_t& made) : limit_(limit), made_(made) {
    resizeRaw(out_, std::min(std::max(kFirstOutput, input * 4), limit + 1));
  }
  /// Makes room if there is none. False when the limit has been passed.
  bool ensureRoom() {
    if (used_ < out_.size()) return true;
    if (used_ > limit_) return false;
    resizeRaw(out_, std::min(out_.size() * 2, limit_ + 1));
    return true;
  }
  char* at() { return out_.data() + used_; }
  size_t room() const { return out_.size() - used_; }
  void advance(size_t n) { made_ = used_ += n; }
  bool passed() const { return used_ > limit_; }
  std::string take() {
    out_.resize(used_);
    return std::move(out_);
  }

 private:
  std::string out_;
  size_t used_ = 0;
  size_t limit_;
  size_t& made_;
};

// ---------------------------------------------------------------- gzip

std::string gzip(BytesView body) {
  z_stream z{};
  if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kGzipWindow, 8, Z_DEFAULT_STRATEGY) !=
      Z_OK) {
    return {};
  }
  std::string out;
  resizeRaw(out, deflateBound(&z, body.size()));
  z.next_in = reinterpret_cast<const Bytef*>(body.data());
  z.avail_in = static_cast<uInt>(body.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  deflate(&z, Z_FINISH);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

Result<std::string> gunzip(BytesView body, size_t limit, size_t& made) {
  z_stream z{};
  if (inflateInit2(&z, kGzipWindow) != Z_OK) {
    return fail(ErrorKind::kInternal, "gzip: no memory");
  }
  std::unique_ptr<z_stream, int (*)(z_stream*)> guard(&z, inflateEnd);
  z.next_in = reinterpret_cast<const Bytef*>(body.data());
  z.avail_in = static_cast<uInt>(body.size());
  GrowingOutput out(body.size(), limit, made);
  for (;;) {
    if (!out.ensureRoom()) return tooLarge("gzip");
    size_t room = out.room();
    z.next_out = reinterpret_cast<Bytef*>(out.at());
    z.avail_out = static_cast<uInt>(room);
    int status = inflate(&z, Z_NO_FLUSH);
    out.advance(room - z.avail_out);
    if (out.passed()) return tooLarge("gzip");
    if (status == Z_STREAM_END) {
      if (z.avail_in == 0) return out.take();
      // A gzip file may hold several members one after the other (RFC 1952, 2.2).
      if (inflateReset(&z) != Z_OK) return corrupt("gzip");
      continue;
    }
    // Z_BUF_ERROR, no progress: input is at its end but the stream is not.
    if (status != Z_OK || (z.avail_in == 0 && z.avail_out != 0)) return corrupt("gzip");
  }
}

// ---------------------------------------------------------------- snappy

std::string snappyXerial(BytesView body) {
  ByteWriter out;
  out.reserve(kXerialHeader + body.size() / 2 + 64);
  out.bytes(kXerialMagic);
  out.u32(1);
  out.u32(1);
  std::string chunk;
  while (!body.empty()) {
    BytesView block = body.substr(0, kXerialBlock);
    body.remove_prefix(block.size());
    snappy::Compress(block.data(), block.size(), &chunk);
    out.bytes32(chunk);
  }
  return out.take();
}

/// Appends one raw snappy block to `out`.
Result<> unsnappyBlock(BytesView block, size_t limit, std::string& out, size_t& made) {
  size_t length = 0;
  if (!snappy::GetUncompressedLength(block.data(), block.size(), &length)) {
    return corrupt("snappy");
  }
  if (length > block.size() * kSnappyRatio) return corrupt("snappy");
  if (length > limit - out.size()) return tooLarge("snappy");
  size_t before = out.size();
  resizeRaw(out, before + length);
  made = out.size();
  if (!snappy::RawUncompress(block.data(), block.size(), out.data() + before)) {
    return corrupt("snappy");
  }
  return {};
}

Result<std::string> unsnappy(BytesView body, size_t limit, size_t& made) {
  std::string out;
  if (!body.starts_with(kXerialMagic)) {
    Result<> done = unsnappyBlock(body, limit, out, made);
    if (!done) return std::unexpected(std::move(done.error()));
    return out;
  }
  if (body.size() < kXerialHeader) return corrupt("snappy");
  ByteReader in(body.substr(kXerialHeader));
  while (in.remaining() > 0) {
    BytesView block = in.bytes32();
    if (!in.ok()) return corrupt("snappy");
    Result<> done = unsnappyBlock(block, limit, out, made);
    if (!done) return std::unexpected(std::move(done.error()));
  }
  if (!in.ok()) return corrupt("snappy");
  return out;
}

// ---------------------------------------------------------------- lz4

std::string lz4(BytesView body) {
  LZ4F_preferences_t preferences{};
  // The Java client reads independent blocks only.
  preferences.frameInfo.blockMode = LZ4F_blockIndependent;
  preferences.frameInfo.blockSizeID = LZ4F_max64KB;
  std::string out;
  resizeRaw(out, LZ4F_compressFrameBound(body.size(), &preferences));
  size_t size = LZ4F_compressFrame(out.data(), out.size(), body.data(), body.size(), &preferences);
  out.resize(LZ4F_isError(size) != 0 ? 0 : size);
  return out;
}

Result<std::string> unlz4(BytesView body, size_t limit, size_t& made) {
  LZ4F_dctx* raw = nullptr;
  if (LZ4F_isError(LZ4F_createDecompressionContext(&raw, LZ4F_VERSION)) != 0) {
    return fail(ErrorKind::kInternal, "lz4: no memory");
  }
  std::unique_ptr<LZ4F_dctx, LZ4F_errorCode_t (*)(LZ4F_dctx*)> context(
      raw, LZ4F_freeDecompressionContext);
  GrowingOutput out(body.size(), limit, made);
  bool ended = false;
  while (!body.empty() || !ended) {
    if (!out.ensureRoom()) return tooLarge("lz4");
    size_t produced = out.room();
    size_t consumed = body.size();
    size_t status =
        LZ4F_decompress(context.get(), out.at(), &produced, body.data(), &consumed, nullptr);
    if (LZ4F_isError(status) != 0) {
      made += out.room();  // at most: it doesn't tell
      return corrupt("lz4");
    }
    out.advance(produced);
    body.remove_prefix(consumed);
    if (out.passed()) return tooLarge("lz4");
    ended = status == 0;
    if (!ended && produced == 0 && consumed == 0) return corrupt("lz4");
  }
  return out.take();
}

// ---------------------------------------------------------------- zstd

std::string zstd(BytesView body) {
  std::string out;
  resizeRaw(out, ZSTD_compressBound(body.size()));
  size_t size =
      ZSTD_compress(out.data(), out.size(), body.data(), body.size(), ZSTD_CLEVEL_DEFAULT);
  out.resize(ZSTD_isError(size) != 0 ? 0 : size);
  return out;
}

/// Into one buffer and never by ZSTD_decompressStream, which would allocate whatever window the
/// frame asks for (up to 128 MiB). A buffer found too small is doubled and the work begun again.
Result<std::string> unzstd(BytesView body, size_t limit, size_t& made) {
  if (body.empty()) return corrupt("zstd");
  // Kept a thread: a fresh one costs more than a small batch does.
  thread_local std::unique_ptr<ZSTD_DCtx, size_t (*)(ZSTD_DCtx*)> context(ZSTD_createDCtx(),
                                                                          ZSTD_freeDCtx);
  if (!context) return fail(ErrorKind::kInternal, "zstd: no memory");
  size_t most = std::min(limit, body.size() * kZstdRatio);
  size_t size = std::max(kFirstOutput, body.size() * 4);
  unsigned long long claimed = ZSTD_getFrameContentSize(body.data(), body.size());
  if (claimed == ZSTD_CONTENTSIZE_ERROR) return corrupt("zstd");
  if (claimed != ZSTD_CONTENTSIZE_UNKNOWN) {
    if (claimed > limit) return tooLarge("zstd");
    if (claimed > most) return corrupt("zstd");
    size = static_cast<size_t>(claimed);
  }
  std::string out;
  for (size = std::min(size, most);; size = std::min(std::max(size * 2, kFirstOutput), most)) {
    resizeRaw(out, size);
    made += size;
    size_t produced =
        ZSTD_decompressDCtx(context.get(), out.data(), out.size(), body.data(), body.size());
    if (ZSTD_isError(produced) == 0) {
      out.resize(produced);
      return out;
    }
    if (ZSTD_getErrorCode(produced) != ZSTD_error_dstSize_tooSmall) return corrupt("zstd");
    if (size >= most) return tooLarge("zstd");
    out.clear();
  }
}

}  // namespace

std::string compress(Compression codec, BytesView body) {
  switch (codec) {
    case Compression::kNone: return std::string(body);
    case Compression::kGzip: return gzip(body);
    case Compression::kSnappy: return snappyXerial(body);
    case Compression::kLz4: return lz4(body);
    case Compression::kZstd: return zstd(body);
  }
  return {};
}

Result<std::string> decompress(Compression codec, BytesView body, size_t limit, size_t& made) {
  made = 0;
  limit = std::min(limit, kLargest);
  if (body.size() > kLargest) return tooLarge("compressed data");
  switch (codec) {
    case Compression::kNone:
      if (body.size() > limit) return tooLarge("uncompressed data");
      return std::string(body);
    case Compression::kGzip: return gunzip(body, limit, made);
    case Compression::kSnappy: return unsnappy(body, limit, made);
    case Compression::kLz4: return unlz4(body, limit, made);
    case Compression::kZstd: return unzstd(body, limit, made);
  }
  return fail(ErrorKind::kUnsupported, "unknown compression codec");
}

Result<std::string> decompress(Compression codec, BytesView body, size_t limit) {
  size_t made = 0;
  return decompress(codec, body, limit, made);
}

}  // namespace polylog
