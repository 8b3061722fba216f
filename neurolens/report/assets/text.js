"use strict";
/* Text: strings and bytes, made visible. What is shown is text nodes only: nothing in these scripts writes HTML. */
const Text = (() => {
  const whole = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const UNSEEN = /[\p{Cc}\p{Cf}\p{Zs}\p{Zl}\p{Zp}\p{Cs}\p{Co}\p{Cn}]/u; // controls, bidi marks, odd spaces, half pairs
  const MARKS = { " ": "␣", "\n": "↵", "\t": "⇥" };
  const hex = (number, width) => number.toString(16).toUpperCase().padStart(width, "0");

  /* [[text, is a mark of ours], …]. `spaces`: spaces, too, are marked. */
  function pieces(string, spaces = true) {
    const found = [];
    let last = "";
    const add = (text, mark) => {
      if (found.length && found.at(-1)[1] === mark) found.at(-1)[0] += text;
      else found.push([text, mark]);
    };
    for (const char of string) {
      const joins = char === "\u200d" && last && !UNSEEN.test(last); // inside an emoji
      if (char === " " && !spaces) add(char, false);
      else if (MARKS[char]) add(MARKS[char], true);
      else if (UNSEEN.test(char) && !joins) add(`‹U+${hex(char.codePointAt(0), 4)}›`, true);
      else if (!last && /\p{M}/u.test(char)) add(`◌${char}`, false);
      else add(char, false);
      last = char;
    }
    return found;
  }

  /* The pieces of bytes that may be no UTF-8, or a part of a character: such bytes are shown by their numbers. */
  function ofBytes(bytes) {
    try {
      return pieces(whole.decode(bytes));
    } catch {
      const found = [];
      for (let i = 0; i < bytes.length; ) {
        const first = bytes[i];
        const length = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
        try {
          if (!length || i + length > bytes.length) throw new RangeError();
          found.push(...pieces(whole.decode(bytes.subarray(i, i + length))));
          i += length;
        } catch {
          found.push([`‹${hex(first, 2)}›`, true]);
          i += 1;
        }
      }
      return found;
    }
  }

  /* Names of runs, models and labels: as they are, but nothing in them is unseen. */
  const name = (string) => pieces(String(string), false).map(([text]) => text).join("");
  const flat = (list) => list.map(([text]) => text).join("");

  /* Texts of a stream of tokens: a character stands with the token that completes it. Tokens without any have "". */
  function stream(parts) {
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    const texts = parts.map((bytes) => decoder.decode(bytes, { stream: true }));
    if (texts.length) texts[texts.length - 1] += decoder.decode();
    return texts;
  }

  /* Texts of all tokens at once: string[]. U+FDD0 is no character; should a token hold it, each is decoded by itself. */
  function all(start, bytes) {
    const size = start.length - 1;
    const loose = new TextDecoder("utf-8", { ignoreBOM: true });
    const joined = new Uint8Array(bytes.length + 3 * size);
    for (let i = 0, at = 0; i < size; i++) {
      for (let k = start[i]; k < start[i + 1]; k++) joined[at++] = bytes[k];
      joined[at++] = 0xef;
      joined[at++] = 0xb7;
      joined[at++] = 0x90;
    }
    const texts = loose.decode(joined).split("\ufdd0");
    if (texts.length === size + 1) return texts.slice(0, size);
    return Array.from({ length: size }, (_, i) => loose.decode(bytes.subarray(start[i], start[i + 1])));
  }

  const count = (number) => number.toLocaleString("en-US");
  const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
  const trim = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);

  /* A share as a percentage of three digits; very small ones as powers of ten. */
  function percent(share) {
    if (share === null || Number.isNaN(share)) return "–";
    if (share === 0) return "0%";
    const value = 100 * share;
    if (Math.abs(value) < 0.0001) return `${power(value)}%`;
    if (share < 1 && value >= 99.95) return "> 99.9%";
    return `${trim(Math.abs(value) >= 10 ? value.toFixed(1) : value.toPrecision(Math.abs(value) < 0.01 ? 2 : 3))}%`;
  }
  function power(value) {
    const [digits, exponent] = value.toExponential(1).split("e");
    const raised = String(Number(exponent)).replace(/./g, (char) => (char === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[char]));
    return `${digits}·10${raised}`;
  }
  function decimal(value, digits = 3) {
    if (value === null || Number.isNaN(value)) return "–";
    if (value !== 0 && Math.abs(value) < 0.5 * 10 ** -digits) return power(value).replace("-", "−");
    return trim(value.toFixed(digits)).replace("-", "−");
  }
  const fixed = (value, digits = 3) =>
    (Number.isNaN(value) ? "–" : value.toFixed(digits).replace(/^-(?=0\.0+$)/, "").replace("-", "−"));
  const capital = (word) => word.charAt(0).toUpperCase() + word.slice(1);
  const signed = (value, digits = 2) => (value > 0 ? "+" : "") + decimal(value, digits);

  return { pieces, ofBytes, name, flat, stream, all, count, plural, percent, decimal, fixed, signed, capital };
})();
