/* Preloaded into ndmjob so that its test-tape runs on: Debian's build has faults of its own there.
 *
 * - It takes g_malloc(0) == NULL for a failure, so its TAPE_WRITE of no bytes is never sent (T-BW step 6).
 * - It fills its records from a struct whose padding it never sets and compares them with a second filling (T-READ).
 * - With SKIP_BWR: T-BWR compares a signed char with 0 to 255, which cannot hold (step 23); skip the phase to see the
 *   ones behind it.
 */
/* Declared here, so that it compiles without the C library's headers. */
typedef __SIZE_TYPE__ size_t;
void *malloc(size_t size);
void *calloc(size_t count, size_t size);

void *g_malloc(size_t size) { return malloc(size ? size : 1); }

void *g_malloc0(size_t size) { return calloc(1, size ? size : 1); }

void ndmca_test_fill_data(char *record, int size, int record_number, int file_number) {
    for (int i = 0; i < size; i++)
        record[i] = (char)(record_number * 31 + file_number * 7 + i + (i >> 8));
}

#ifdef SKIP_BWR
int ndmca_tt_basic_write_and_read(void *session) {
    (void)session;
    return 0;
}
#endif
