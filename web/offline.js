// A service worker: keeps the files of the page, so that it works without a network,
// and isolates the page, which lets WebAssembly use threads on any server.

const STORE = "files";
// What a page has loaded before this worker first starts; all else passes through it.
const FIRST = ["./", "style.css", "page.js", "icon.svg"];

self.addEventListener("install", (event) => {
  self.skipWaiting();
  event.waitUntil(Promise.all(FIRST.map((name) => answer(new Request(name)))));
});
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  if (event.request.method === "GET") event.respondWith(answer(event.request));
});

/** The file from the server, or else the one kept from the last visit. */
async function answer(request) {
  let response;
  try {
    response = await fetch(request);
  } catch (error) {
    const kept = await caches.match(request, { cacheName: STORE, ignoreSearch: true });
    if (kept) return kept;
    throw error;
  }
  if (!response.ok) return response;
  const isolated = isolate(response);
  await keep(request, isolated.clone());
  return isolated;
}

/** Keep a file for the next visit; without room for it this visit goes on. */
async function keep(request, response) {
  try {
    const store = await caches.open(STORE);
    await store.put(request, response);
  } catch {}
}

function isolate(response) {
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  return new Response(response.body, { status: response.status, headers });
}
