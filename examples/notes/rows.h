/* What the repositories have in common. */
#ifndef NOTES_ROWS_H
#define NOTES_ROWS_H

#include <pqrouter/pqrouter.h>

/* Takes what a call returned, and passes it on; but OK without a row becomes MISSING, with *res
 * NULL, and who had none in err->node. */
int one_row(int code, pqr_result **res, pqr_error *err);

#endif
