/// What jemalloc reads before anything is allocated; MALLOC_CONF in the environment goes before it.
///
/// One arena: threads have caches of their own before it, and more arenas would each keep what
/// somebody once needed. What is free goes back to the system within a second or so, by a thread
/// of jemalloc's own. See docs/adr/001 and jemalloc(3), "TUNING".
extern "C" {
extern const char* malloc_conf;
const char* malloc_conf = "narenas:1,background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0";
}
