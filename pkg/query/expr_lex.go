package query

import "strings"

// next reads a token.
func (p *exprParser) next() error {
	for p.pos < len(p.src) && strings.IndexByte(" \t\n", p.src[p.pos]) >= 0 {
		p.pos++
	}
	p.tok = token{at: p.pos}
	if p.pos == len(p.src) {
		return nil
	}
	rest := p.src[p.pos:]
	take := func(kind tokenKind, text string) error {
		p.tok.kind, p.tok.text = kind, text
		p.pos += len(text)
		return nil
	}
	switch rest[0] {
	case '(':
		return take(tokOpen, "(")
	case ')':
		return take(tokClose, ")")
	case '\\':
		return take(tokEscape, `\`)
	case '"':
		return p.quoted(tokString)
	case '/':
		return p.quoted(tokRegexp)
	}
	// The longest that fits: "!==" before "!", "<=" before "<".
	for _, op := range [...]string{"r!=", "i!=", "!==", "r=", "i=", "<=", "==", ">=", "<", ">"} {
		if strings.HasPrefix(rest, op) {
			return take(tokOp, op)
		}
	}
	switch {
	case rest[0] == '!':
		return take(tokNot, "!")
	case strings.HasPrefix(rest, "&&"):
		return take(tokAnd, "&&")
	case strings.HasPrefix(rest, "||"):
		return take(tokOr, "||")
	}
	n := 0
	if rest[0] == '-' { // a negative number needs no quotes
		n++
	}
	for n < len(rest) && isWord(rest[n]) {
		n++
	}
	if n == 0 || n == 1 && rest[0] == '-' {
		p.pos++
		return p.fail("%q means nothing here: quote a value that is more than letters, digits and _", rest[:1])
	}
	return take(tokString, rest[:n])
}

func isWord(c byte) bool {
	return c-'0' <= 9 || (c|0x20)-'a' <= 'z'-'a' || c == '_'
}

// quoted reads a string or a regexp, whose delimiter is at pos.
func (p *exprParser) quoted(kind tokenKind) error {
	delimiter := p.src[p.pos]
	var text strings.Builder
	for i := p.pos + 1; i < len(p.src); i++ {
		c := p.src[i]
		if c == delimiter {
			p.tok.kind, p.tok.text = kind, text.String()
			p.pos = i + 1
			return nil
		}
		if c == '\\' {
			if i++; i == len(p.src) {
				break
			}
			c = p.src[i]
			switch {
			case c == '\\' || c == delimiter:
			case kind == tokRegexp: // which the language leaves open: the regexp's own
				text.WriteByte('\\')
			default:
				p.tok.at = i - 1
				p.pos = i + 1
				return p.fail(`\%c is no escape: there are \\ and \"`, c)
			}
		}
		text.WriteByte(c)
	}
	p.pos = len(p.src)
	return p.fail("the closing %c is missing", delimiter)
}
