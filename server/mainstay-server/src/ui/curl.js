// Lines for a shell.

/**
 * The words of curl that send `body` as JSON. Bare `-d` says that it is a form; `--json` is unknown to curls before 7.82.
 */
export const jsonBody = (body) => `-H content-type:application/json -d '${JSON.stringify(body).replace(/'/g, "'\\''")}'`;
