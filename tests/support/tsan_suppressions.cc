// Debian's RocksDB is not built for ThreadSanitizer, which so does not see the atomics that order
// its threads and takes what they hand over for races. Only stacks that pass through it, or through
// the file that hands its keys and values out, are left out.
#if defined(__SANITIZE_THREAD__)
#define POLYLOG_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define POLYLOG_TSAN 1
#endif
#endif

#ifdef POLYLOG_TSAN
extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() { return "race:librocksdb\nrace:storage/state_view.cc\n"; }
#endif
