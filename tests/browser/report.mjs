// Opens a report in a real browser: no script error, nothing loaded from outside, hover values, light and dark, a phone's
// width, print. Usage: node report.mjs REPORT.html SCREENSHOTS/
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [report, folder] = process.argv.slice(2);
mkdirSync(folder, { recursive: true });
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
try {
  for (const [name, scheme, width] of [["light", "light", 1200], ["dark", "dark", 1200], ["phone", "light", 390]]) {
    const page = await browser.newPage({ colorScheme: scheme, viewport: { width, height: 900 } });
    const errors = [];
    const requests = [];
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
    page.on("request", (request) => requests.push(request.url()));
    await page.goto(pathToFileURL(resolve(report)).href);
    assert.deepEqual(errors, [], "script errors");
    assert.equal(requests.length, 1, `the page loads nothing else: ${requests}`);

    const marks = page.locator(".hit");
    assert.ok((await marks.count()) > 10, "charts have hover values");
    const tip = page.locator("#tip");
    assert.equal(await tip.isVisible(), false);
    await marks.first().scrollIntoViewIfNeeded();
    await marks.first().hover({ force: true });
    assert.match(await tip.innerText(), /bits?: [\d.]+ %/);
    const box = await tip.boundingBox();
    assert.ok(box.x >= 0 && box.x + box.width <= width, "the hover value stays on the page");
    await page.mouse.move(0, 0);

    const colors = await page.evaluate(() => {
      const style = getComputedStyle(document.body);
      const text = document.querySelector(".chart text");
      return { paper: style.backgroundColor, ink: style.color, chart: getComputedStyle(text).fill };
    });
    assert.equal(colors.chart, colors.ink, "text in charts has the page's color");
    assert.equal(colors.paper === "rgb(255, 255, 255)", scheme === "light");
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(wide <= width, `the page is ${wide} pixels wide on a screen of ${width}`);
    await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
    await page.close();
  }
  const page = await browser.newPage();
  await page.goto(pathToFileURL(resolve(report)).href);
  const pdf = await page.pdf({ path: join(folder, "print.pdf") });
  assert.ok(pdf.length > 10_000);
} finally {
  await browser.close();
}
console.log("the report opens without an error");
