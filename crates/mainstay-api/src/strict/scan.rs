//! The walk over a whole document: syntax, and all that is JSON but not safe to exchange.

use std::borrow::Cow;
use std::collections::HashSet;

use super::value::{Value, unescape};
use super::{Cx, Path};
use crate::{Code, FieldError, Problem};

/// How deep arrays and objects may be nested.
pub const MAX_DEPTH: usize = 128;

/// Above this many keys duplicates are found by hashing, below by comparing.
const FEW_KEYS: usize = 12;

/// Walks the document and gives its one value. Doubtful values are reported to `cx`.
pub(super) fn document<'a>(cx: &mut Cx<'_>, at: &Path<'_>, text: &'a str) -> Result<Value<'a>, Problem> {
    let mut scan = Scan { text, bytes: text.as_bytes(), pos: 0, cx };
    let walked = scan.walk(at);
    let end = scan.pos;
    match walked {
        Ok(value) => {
            cx.scanned();
            Ok(value)
        }
        Err(Syntax(what)) => {
            let detail = format!("the body is not JSON: {what} at byte {end}");
            let problem = Problem::new(Code::MalformedBody, detail);
            Err(match at {
                Path::Root => problem,
                line => problem
                    .with_errors(vec![FieldError::new(line.pointer(), format!("{what} at byte {end}"))]),
            })
        }
    }
}

/// The text stops being JSON at the scanner's position.
struct Syntax(&'static str);

struct Scan<'a, 'c, 'l> {
    text: &'a str,
    bytes: &'a [u8],
    pos: usize,
    cx: &'c mut Cx<'l>,
}

/// A string as found: its text between the quotes.
struct Quoted<'a> {
    text: &'a str,
    escaped: bool,
    lone_surrogate: bool,
}

impl<'a> Scan<'a, '_, '_> {
    fn walk(&mut self, at: &Path<'_>) -> Result<Value<'a>, Syntax> {
        self.space();
        let start = self.pos;
        self.value(0, at)?;
        let value = Value::trusted(&self.text[start..self.pos]);
        self.space();
        if self.pos < self.bytes.len() {
            return Err(Syntax("something follows the value"));
        }
        Ok(value)
    }

    fn value(&mut self, depth: usize, at: &Path<'_>) -> Result<(), Syntax> {
        match self.peek() {
            Some(b'{' | b'[') if depth == MAX_DEPTH => {
                self.cx.error(at, format!("is nested deeper than {MAX_DEPTH}"));
                self.abyss()
            }
            Some(b'{') => self.object(depth + 1, at),
            Some(b'[') => self.array(depth + 1, at),
            Some(b'"') => {
                if self.string()?.lone_surrogate {
                    self.cx.error(at, "contains a lone surrogate");
                }
                Ok(())
            }
            _ => {
                if !self.scalar()? {
                    self.cx.error(at, "is a number beyond what a double can hold");
                }
                Ok(())
            }
        }
    }

    fn object(&mut self, depth: usize, at: &Path<'_>) -> Result<(), Syntax> {
        self.pos += 1;
        self.space();
        if self.eat(b'}') {
            return Ok(());
        }
        let mut few: [&str; FEW_KEYS] = [""; FEW_KEYS];
        let mut count = 0;
        let mut seen: Option<Seen<'a>> = None;
        loop {
            let key = self.key()?;
            if key.lone_surrogate {
                self.cx.error(at, "has a key with a lone surrogate");
            }
            // Escaped keys are rare; with the first one, or with many keys, hashing of the decoded keys takes over.
            let duplicate = match &mut seen {
                Some(seen) => !seen.insert(decoded(&key)),
                None if key.escaped || count == FEW_KEYS => {
                    let mut all: Seen<'a> = few[..count].iter().map(|key| Cow::Borrowed(*key)).collect();
                    let fresh = all.insert(decoded(&key));
                    seen = Some(all);
                    !fresh
                }
                None => {
                    let duplicate = few[..count].contains(&key.text);
                    few[count] = key.text;
                    count += 1;
                    duplicate
                }
            };
            let name = decoded(&key);
            let member = at.key(&name);
            if duplicate {
                self.cx.error(&member, "is there twice");
            }
            self.value(depth, &member)?;
            self.space();
            if self.eat(b'}') {
                return Ok(());
            }
            self.expect(b',', "expected , or }")?;
            self.space();
        }
    }

    fn array(&mut self, depth: usize, at: &Path<'_>) -> Result<(), Syntax> {
        self.pos += 1;
        self.space();
        if self.eat(b']') {
            return Ok(());
        }
        let mut index = 0;
        loop {
            self.value(depth, &at.index(index))?;
            index += 1;
            self.space();
            if self.eat(b']') {
                return Ok(());
            }
            self.expect(b',', "expected , or ]")?;
            self.space();
        }
    }

    /// Checks the syntax of what is too deep, without recursion: one byte of memory for each open bracket.
    fn abyss(&mut self) -> Result<(), Syntax> {
        let mut open: Vec<u8> = Vec::new();
        loop {
            // Here a value begins.
            match self.peek() {
                Some(bracket @ (b'{' | b'[')) => {
                    self.pos += 1;
                    self.space();
                    open.push(bracket);
                    let empty = if bracket == b'{' { self.eat(b'}') } else { self.eat(b']') };
                    if !empty {
                        if bracket == b'{' {
                            self.key()?;
                        }
                        continue;
                    }
                    open.pop();
                }
                Some(b'"') => {
                    self.string()?;
                }
                _ => {
                    self.scalar()?;
                }
            }
            // Here a value has ended.
            loop {
                let Some(bracket) = open.last() else { return Ok(()) };
                self.space();
                if *bracket == b'{' {
                    if self.eat(b'}') {
                        open.pop();
                        continue;
                    }
                    self.expect(b',', "expected , or }")?;
                    self.space();
                    self.key()?;
                } else {
                    if self.eat(b']') {
                        open.pop();
                        continue;
                    }
                    self.expect(b',', "expected , or ]")?;
                    self.space();
                }
                break;
            }
        }
    }

    /// A key, its colon, and the space around it.
    fn key(&mut self) -> Result<Quoted<'a>, Syntax> {
        if self.peek() != Some(b'"') {
            return Err(Syntax("expected a key in quotes"));
        }
        let key = self.string()?;
        self.space();
        self.expect(b':', "expected :")?;
        self.space();
        Ok(key)
    }

    fn string(&mut self) -> Result<Quoted<'a>, Syntax> {
        self.pos += 1;
        let start = self.pos;
        let (mut escaped, mut lone_surrogate) = (false, false);
        loop {
            match self.peek() {
                None => return Err(Syntax("the text ends inside a string")),
                Some(b'"') => {
                    let text = &self.text[start..self.pos];
                    self.pos += 1;
                    return Ok(Quoted { text, escaped, lone_surrogate });
                }
                Some(b'\\') => {
                    escaped = true;
                    lone_surrogate |= self.escape()?;
                }
                Some(0..=0x1f) => return Err(Syntax("unescaped control character in a string")),
                Some(_) => self.pos += 1,
            }
        }
    }

    /// One escape, or the two of a surrogate pair; answers whether it was half a pair.
    fn escape(&mut self) -> Result<bool, Syntax> {
        self.pos += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.pos += 1;
                Ok(false)
            }
            Some(b'u') => match self.unit()? {
                0xd800..=0xdbff => {
                    if !self.bytes[self.pos..].starts_with(b"\\u") {
                        return Ok(true);
                    }
                    let second = self.pos;
                    self.pos += 1;
                    if matches!(self.unit()?, 0xdc00..=0xdfff) {
                        return Ok(false);
                    }
                    // The second escape is no partner, but may itself begin a pair.
                    self.pos = second;
                    Ok(true)
                }
                0xdc00..=0xdfff => Ok(true),
                _ => Ok(false),
            },
            _ => Err(Syntax("unknown escape")),
        }
    }

    fn unit(&mut self) -> Result<u32, Syntax> {
        self.pos += 1;
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self
                .peek()
                .and_then(|byte| char::from(byte).to_digit(16))
                .ok_or(Syntax("expected four hex digits"))?;
            unit = unit << 4 | digit;
            self.pos += 1;
        }
        Ok(unit)
    }

    /// A number or a word; answers whether it can be held.
    fn scalar(&mut self) -> Result<bool, Syntax> {
        match self.peek() {
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            None => Err(Syntax("the text ends where a value is expected")),
            Some(0xef) if self.bytes[self.pos..].starts_with("\u{feff}".as_bytes()) => {
                Err(Syntax("byte order mark"))
            }
            Some(_) => Err(Syntax("expected a value")),
        }
    }

    fn word(&mut self, word: &str) -> Result<bool, Syntax> {
        if !self.bytes[self.pos..].starts_with(word.as_bytes()) {
            return Err(Syntax("expected a value"));
        }
        self.pos += word.len();
        Ok(true)
    }

    fn number(&mut self) -> Result<bool, Syntax> {
        let start = self.pos;
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        } else if matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(Syntax("a number begins with 0"));
        }
        let whole = self.pos - start;
        if self.eat(b'.') {
            self.digits()?;
        }
        let mut exponent = false;
        if self.eat(b'e') || self.eat(b'E') {
            exponent = true;
            if !self.eat(b'+') {
                self.eat(b'-');
            }
            self.digits()?;
        }
        // 300 digits are below 10^308; only longer or scaled ones need the exact look.
        let sure = !exponent && whole <= 300;
        Ok(sure || self.text[start..self.pos].parse::<f64>().is_ok_and(f64::is_finite))
    }

    fn digits(&mut self) -> Result<(), Syntax> {
        let start = self.pos;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.pos += 1;
        }
        if self.pos == start { Err(Syntax("expected a digit")) } else { Ok(()) }
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.pos += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.pos).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.pos += usize::from(there);
        there
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), Syntax> {
        if self.eat(byte) { Ok(()) } else { Err(Syntax(what)) }
    }
}

type Seen<'a> = HashSet<Cow<'a, str>>;

fn decoded<'a>(key: &Quoted<'a>) -> Cow<'a, str> {
    if key.escaped { Cow::Owned(unescape(key.text)) } else { Cow::Borrowed(key.text) }
}
