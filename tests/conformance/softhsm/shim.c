/* A PKCS #11 module that stands in front of another one and breaks what it is told to break.
 *
 * SHIM_MODULE names the module behind it, SHIM_CONTROL a file that is read at each call that may be
 * broken, SHIM_CALLS a file that gets one line for each such call. What the control file may hold, one
 * a line (name value):
 *     sign_ms N        C_Sign takes so many milliseconds longer
 *     sign_rv HEX      C_Sign returns this
 *     login_rv HEX     C_Login returns this, and the module behind is not asked
 *     token_flags HEX  these flags are added to each token's
 *     initialize_rv HEX  C_Initialize returns this
 *     drop N           once for each new N: all sessions are closed before the next C_Sign
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef unsigned long ULONG;
typedef ULONG RV;

enum { INITIALIZE = 0, GET_FUNCTION_LIST = 3, GET_SLOT_LIST = 4, GET_TOKEN_INFO = 6,
       CLOSE_ALL_SESSIONS = 14, LOGIN = 18, SIGN = 43, COUNT = 68 };

struct list {
    unsigned char version[2];
    void *functions[COUNT];
};

/* CK_TOKEN_INFO up to its flags; the rest is passed through. */
struct token_info {
    unsigned char texts[32 + 32 + 16 + 16];
    ULONG flags;
};

static struct list *real;
static struct list mine;
static long dropped;

static long told(const char *name, int base) {
    char line[128], key[64], value[64];
    long found = 0;
    FILE *control = fopen(getenv("SHIM_CONTROL"), "r");
    if (!control) return 0;
    while (fgets(line, sizeof line, control))
        if (sscanf(line, "%63s %63s", key, value) == 2 && !strcmp(key, name))
            found = strtol(value, NULL, base);
    fclose(control);
    return found;
}

static void note(const char *call) {
    const char *path = getenv("SHIM_CALLS");
    int file = path ? open(path, O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;
    if (file < 0) return;
    if (write(file, call, strlen(call)) < 0) abort();
    close(file);
}

static RV initialize(void *arguments) {
    note("C_Initialize\n");
    long rv = told("initialize_rv", 16);
    return rv ? (RV)rv : ((RV (*)(void *))real->functions[INITIALIZE])(arguments);
}

static RV get_token_info(ULONG slot, struct token_info *info) {
    RV rv = ((RV (*)(ULONG, void *))real->functions[GET_TOKEN_INFO])(slot, info);
    if (!rv) info->flags |= (ULONG)told("token_flags", 16);
    return rv;
}

static RV login(ULONG session, ULONG user, unsigned char *pin, ULONG size) {
    note("C_Login\n");
    long rv = told("login_rv", 16);
    if (rv) return (RV)rv;
    return ((RV (*)(ULONG, ULONG, unsigned char *, ULONG))real->functions[LOGIN])(session, user, pin, size);
}

static void drop_sessions(void) {
    ULONG slots[16], count = 16;
    if (((RV (*)(unsigned char, ULONG *, ULONG *))real->functions[GET_SLOT_LIST])(1, slots, &count)) return;
    for (ULONG i = 0; i < count; i++)
        ((RV (*)(ULONG))real->functions[CLOSE_ALL_SESSIONS])(slots[i]);
}

static RV sign(ULONG session, unsigned char *data, ULONG size, unsigned char *out, ULONG *out_size) {
    note("C_Sign\n");
    long ms = told("sign_ms", 10), rv = told("sign_rv", 16), drop = told("drop", 10);
    if (ms) {
        struct timespec pause = {ms / 1000, (ms % 1000) * 1000000L};
        nanosleep(&pause, NULL);
    }
    if (drop != dropped) {
        dropped = drop;
        drop_sessions();
    }
    if (rv) return (RV)rv;
    return ((RV (*)(ULONG, unsigned char *, ULONG, unsigned char *, ULONG *))real->functions[SIGN])(
        session, data, size, out, out_size);
}

RV C_GetFunctionList(struct list **out) {
    if (!real) {
        void *module = dlopen(getenv("SHIM_MODULE"), RTLD_NOW | RTLD_LOCAL);
        RV (*get)(struct list **) = module ? (RV (*)(struct list **))dlsym(module, "C_GetFunctionList") : NULL;
        if (!get || get(&real)) return 0x05; /* CKR_GENERAL_ERROR */
        mine = *real;
        mine.functions[INITIALIZE] = initialize;
        mine.functions[GET_FUNCTION_LIST] = C_GetFunctionList;
        mine.functions[GET_TOKEN_INFO] = get_token_info;
        mine.functions[LOGIN] = login;
        mine.functions[SIGN] = sign;
    }
    *out = &mine;
    return 0;
}
