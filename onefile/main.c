/* The one file's entry point: CPython with its extension modules, libbpf and libpcap linked in; the Python code
 * follows the program in the same file, as a zip archive. Nothing is unpacked, and nothing of the host's is loaded. */

#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE
#include <Python.h>

#include <dlfcn.h>
#include <nss.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <unistd.h>

/* Functions that ctypes may look up by name. linked.h, made by the build, has all functions of libbpf and libpcap. */
#define LIBC(F) F(capget) F(capset) F(prctl) F(select) F(setns) F(syscall) F(vsnprintf)
#define ROW(name) {#name, linked_##name},

#define LINKED(name) extern const char linked_##name[] __asm__(#name);
#include "linked.h"
LIBC(LINKED)
#undef LINKED

static const struct {
	const char *name;
	const void *address;
} functions[] = {
#define LINKED ROW
#include "linked.h"
	LIBC(ROW)
};

/* dlopen(3) and its kin for ctypes: every library that is asked for is this program. They are defined here, so the
 * linker leaves out libc's, which would load the host's libraries. */
static const char *failure;

void *dlopen(const char *name, int flags)
{
	static const char *const inside[] = {"libbpf.so.", "libpcap.so.", "libc.so."};

	(void)flags;
	if (!name)
		return (void *)functions;
	for (size_t i = 0; i < sizeof(inside) / sizeof(*inside); i++)
		if (!strncmp(name, inside[i], strlen(inside[i])))
			return (void *)functions;
	failure = "no such library in this file";
	return NULL;
}

void *dlsym(void *restrict library, const char *restrict name)
{
	(void)library;
	for (size_t i = 0; i < sizeof(functions) / sizeof(*functions); i++)
		if (!strcmp(functions[i].name, name))
			return (void *)functions[i].address;
	failure = "no such function in this file";
	return NULL;
}

int dlclose(void *library)
{
	(void)library;
	return 0;
}

char *dlerror(void)
{
	const char *last = failure;

	failure = NULL;
	return (char *)last;
}

/* The extension modules that pwru's imports lead to, in place of all that libpython has, which would be linked, too. */
#define MODULES(F) \
	F(_abc) F(_bisect) F(_blake2) F(_codecs) F(_collections) F(_contextvars) F(_csv) F(_ctypes) F(_datetime) \
	F(_functools) F(_heapq) F(_imp) F(_io) F(_json) F(_locale) F(_md5) F(_opcode) F(_operator) \
	F(_posixsubprocess) F(_queue) F(_random) F(_sha1) F(_sha2) F(_sha3) F(_signal) F(_socket) F(_sre) F(_stat) \
	F(_string) F(_struct) F(_suggestions) F(_symtable) F(_sysconfig) F(_thread) F(_tokenize) F(_tracemalloc) \
	F(_typing) F(_weakref) F(array) F(atexit) F(binascii) F(errno) F(faulthandler) F(fcntl) F(gc) F(grp) \
	F(itertools) F(math) F(mmap) F(posix) F(pwd) F(resource) F(select) F(termios) F(time) F(unicodedata) \
	F(zlib)
#define DECLARE(name) extern PyObject *PyInit_##name(void);
#define MODULE(name) {#name, PyInit_##name},

MODULES(DECLARE)
extern PyObject *PyMarshal_Init(void), *_PyWarnings_Init(void), *PyInit__ast(void);

struct _inittab _PyImport_Inittab[] = {
	MODULES(MODULE)
	{"_ast", PyInit__ast},
	{"_warnings", _PyWarnings_Init},
	{"marshal", PyMarshal_Init},
	{"builtins", NULL},
	{"sys", NULL},
	{NULL, NULL},
};

static void fail(PyStatus status)
{
	fprintf(stderr, "pwru: Python cannot start: %s\n", status.err_msg ? status.err_msg : "unknown error");
	_exit(1);
}

static void check(PyStatus status)
{
	if (PyStatus_Exception(status))
		fail(status);
}

int main(int argc, char **argv)
{
	/* The link still leads here if the file has been moved or deleted, but there is none without /proc. */
	const char *self = access("/proc/self/exe", R_OK) ? (const char *)getauxval(AT_EXECFN) : "/proc/self/exe";
	static const char *const databases[] = {"passwd", "group", "services", "protocols", "networks", "ethers"};
	PyPreConfig before;
	PyConfig config;
	wchar_t *path;

	/* Names come from files and DNS: other sources are libraries of the host. */
	for (size_t i = 0; i < sizeof(databases) / sizeof(*databases); i++)
		__nss_configure_lookup(databases[i], "files");
	__nss_configure_lookup("hosts", "files dns");

	PyPreConfig_InitIsolatedConfig(&before);
	before.utf8_mode = 1; /* other encodings are files of the host's libc */
	check(Py_PreInitialize(&before));

	PyConfig_InitIsolatedConfig(&config);
	config.install_signal_handlers = 1;
	config.parse_argv = 0;
	config.site_import = 0;
	config.write_bytecode = 0;
	config.module_search_paths_set = 1;
	path = Py_DecodeLocale(self, NULL);
	check(PyWideStringList_Append(&config.module_search_paths, path));
	check(PyConfig_SetString(&config, &config.executable, path));
	check(PyConfig_SetString(&config, &config.home, L"/nonexistent"));
	check(PyConfig_SetBytesArgv(&config, argc, argv));
	check(Py_InitializeFromConfig(&config));
	/* sys.frozen says that everything is inside, as in other executables of this kind */
	return PyRun_SimpleString("import sys\nsys.frozen = True\nfrom pwru.__main__ import run\nrun()\n") ? 1 : 0;
}
