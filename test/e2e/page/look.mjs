// Opens status pages in headless Chromium and reports what it found, as one JSON document. Standard input says which:
// {"out": folder for the screenshots, "axe": bool, "pages": [{"name", "url", "poke", "scheme", "width", "script", "open"}]}
// poke is a URL that is asked after the page has loaded, so that something on it changes; open is the part of the page that is unfolded.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { chromium } from "playwright-core";

const job = JSON.parse(await text(process.stdin));
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const browser = await chromium.launch({
  executablePath: job.chromium,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const found = [];
for (const wanted of job.pages) {
  const context = await browser.newContext({
    viewport: { width: wanted.width || 1200, height: 900 },
    colorScheme: wanted.scheme || "light",
    javaScriptEnabled: wanted.script !== false,
    reducedMotion: "reduce",
  });
  const page = await context.newPage();
  const result = { name: wanted.name, console: [], foreign: [], violations: [], live: "" };
  const home = new URL(wanted.url).origin;
  page.on("console", (m) => ["error", "warning"].includes(m.type()) && result.console.push(m.text()));
  page.on("pageerror", (e) => result.console.push(String(e)));
  page.on("request", (r) => new URL(r.url()).origin === home || result.foreign.push(r.url()));
  await page.goto(wanted.url, { waitUntil: "load" });
  if (wanted.script !== false) await page.waitForFunction(() => document.getElementById("live").textContent === "Live", null, { timeout: 8000 });
  if (wanted.poke) {
    // An explanation that somebody reads stays open, and focused, while a new refusal comes in above it.
    const first = page.locator("#refusals details").first();
    const had = await page.locator("#refusals details").count();
    if (had > 0) {
      await first.locator("summary").focus();
      await page.keyboard.press("Enter");
    }
    const id = had > 0 ? await first.evaluate((e) => e.parentElement.id) : "";
    await fetch(wanted.poke);
    await page.waitForFunction((n) => document.querySelectorAll("#refusals details").length > n, had, { timeout: 8000 });
    result.live = await page.locator("#refusals code.reason").first().textContent();
    if (id) {
      result.kept = await page.evaluate((id) => document.querySelector("#" + id + " details").open && document.activeElement === document.querySelector("#" + id + " summary"), id);
    }
  }
  if (wanted.open) for (const d of await page.locator(wanted.open).all()) await d.evaluate((e) => (e.open = true));
  result.html = await page.content();
  result.text = await page.locator("body").innerText();
  result.wide = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
  if (wanted.script !== false) {
    // Through the debugger's protocol, which the page's own policy does not bind.
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
    result.violations = violations.map((v) => ({ id: v.id, impact: v.impact, nodes: v.nodes.slice(0, 3).map((n) => n.html.slice(0, 200)) }));
  }
  await page.evaluate(() => scrollTo(0, 0));
  await page.screenshot({ path: join(job.out, wanted.name + ".png"), fullPage: true });
  await context.close();
  found.push(result);
}
await browser.close();
process.stdout.write(JSON.stringify(found));
