// A daemon as the page sees it: the page's own files, and answers that a test sets.

import {readFile} from 'node:fs/promises';
import {createServer} from 'node:http';

const kFolder = new URL('../../metrics/page/', import.meta.url);
const kFiles = {
  '/': ['index.html', 'text/html; charset=utf-8'],
  '/page/page.css': ['page.css', 'text/css; charset=utf-8'],
  '/page/icon.svg': ['icon.svg', 'image/svg+xml'],
  '/page/page.js': ['page.js', 'text/javascript; charset=utf-8'],
  '/page/view.js': ['view.js', 'text/javascript; charset=utf-8'],
  '/page/model.js': ['model.js', 'text/javascript; charset=utf-8'],
};

/** What the daemon sends with the page; the test over a real daemon holds the two together. */
export const kPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** `answers`: path -> value, or a function of the URL's parameters. undefined: 404. */
export async function standIn(answers) {
  const server = createServer(async (request, reply) => {
    const url = new URL(request.url, 'http://localhost');
    const file = kFiles[url.pathname];
    if (file) {
      reply.writeHead(200, {'Content-Type': file[1], 'Content-Security-Policy': kPolicy, 'X-Content-Type-Options': 'nosniff'});
      return reply.end(await readFile(new URL(file[0], kFolder)));
    }
    let answer = answers[url.pathname];
    if (typeof answer === 'function') answer = answer(url.searchParams);
    reply.writeHead(answer === undefined ? 404 : 200, {'Content-Type': 'application/json'});
    reply.end(answer === undefined ? '' : JSON.stringify(answer));
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    close: () => { server.closeAllConnections(); server.close(); },
  };
}
