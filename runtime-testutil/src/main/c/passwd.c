/*
 * Preloaded into initdb and postgres when their user has no entry in the password database, as in a container that runs as an
 * arbitrary user. Both ask for the user's name and give up when there is none; they do nothing else with it.
 *
 * The libraries beside the Java classes are built from this file, without a C library, so that they fit glibc and musl:
 *
 *   for cpu in x86_64:amd64 aarch64:arm64; do
 *     zig cc -target ${cpu%:*}-linux-musl -shared -nostdlib -Os -s -fno-stack-protector -fno-sanitize=undefined \
 *       -Wl,--build-id=none passwd.c -o passwd-linux-${cpu#*:}.so
 *   done
 */
struct passwd { /* the same in glibc and musl */
  const char *name;
  const char *password;
  unsigned int uid;
  unsigned int gid;
  const char *gecos;
  const char *home;
  const char *shell;
};

static struct passwd entry;

struct passwd *getpwuid(unsigned int uid) {
  entry.name = "postgres";
  entry.password = "x";
  entry.uid = uid;
  entry.gid = uid;
  entry.gecos = "";
  entry.home = "/";
  entry.shell = "/bin/false";
  return &entry;
}
