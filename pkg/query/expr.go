package query

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/tables"
)

// The language is that of ausearch-expression(5):
//
//	expression = and { "||" and }
//	and        = not { "&&" not }
//	not        = "!" not | "(" expression ")" | comparison
//	comparison = FIELD ( "r=" | "r!=" | "i=" | "i!=" ) VALUE
//	           | FIELD OPERATOR NUMBER
//	           | "\timestamp" | "\timestamp_ex" | "\record_type"  OPERATOR VALUE
//	           | "\regexp" ( STRING | /REGEXP/ )
//	OPERATOR   = "<" | "<=" | "==" | ">" | ">=" | "!=="
//
// Numbers of fields are ours: the stock language compares times and types only. It is
// about one record. An event is found when it is true of one of its records;
// a comparison with a field that the record has not is false, whatever the operator.

// ExprError is returned for a text that is not an expression. At is the byte offset of
// the error in the text.
type ExprError struct {
	At  int
	Msg string
}

func (e *ExprError) Error() string { return fmt.Sprintf("expression, at byte %d: %s", e.At, e.Msg) }

// Bounds of an expression that came from anybody.
const (
	maxExprBytes = 64 << 10
	maxExprDepth = 200
)

// exprKind is what a node of an expression is.
type exprKind uint8

const (
	exprAnd exprKind = iota
	exprOr
	exprNot
	exprField  // name op text, raw or in words
	exprTime   // \timestamp, \timestamp_ex
	exprType   // \record_type
	exprRegexp // of the record's text
)

// exprOp is a comparison.
type exprOp uint8

const (
	opRaw exprOp = iota // r=
	opRawNot
	opWords // i=
	opWordsNot
	opLess
	opLessEqual
	opSame
	opGreater
	opGreaterEqual
	opNotSame
)

// spellings are the operators as written, in the order of their numbers.
var spellings = [...]string{"r=", "r!=", "i=", "i!=", "<", "<=", "==", ">", ">=", "!=="}

// expr is a parsed expression. Evaluation does not change it, so Matchers of several
// goroutines may share one.
type expr struct {
	kind exprKind
	op   exprOp
	args []*expr // of and, or, not

	name, text string
	field      Field // called name, if named
	named      bool
	number     int64 // that the field is compared with
	re         *regexp.Regexp
	typ        uint32
	ms         int64
	serial     uint64
	hasSerial  bool // \timestamp_ex
}

type token struct {
	kind tokenKind
	at   int
	text string // of a string or a regexp, without its quotes and escapes
}

type tokenKind uint8

const (
	tokEnd tokenKind = iota
	tokOpen
	tokClose
	tokEscape
	tokNot
	tokAnd
	tokOr
	tokOp // text is the operator
	tokString
	tokRegexp
)

// exprParser parses one expression. After each method, tok is the first token that the
// method did not consume.
type exprParser struct {
	src   string
	pos   int
	tok   token
	depth int
}

// parseExpr reads an expression. The error is an *ExprError.
func parseExpr(src string) (_ *expr, err error) {
	if len(src) > maxExprBytes {
		return nil, &ExprError{maxExprBytes, fmt.Sprintf("longer than %d bytes", maxExprBytes)}
	}
	p := &exprParser{src: src}
	if err := p.next(); err != nil {
		return nil, err
	}
	if p.tok.kind == tokEnd {
		return nil, p.fail("there is none")
	}
	e, err := p.or()
	if err != nil {
		return nil, err
	}
	if p.tok.kind != tokEnd {
		return nil, p.fail("%s does not belong here", p.here())
	}
	return e, nil
}

// ExpressionTimes returns bounds of the times of all events for which the expression src
// can be true: both inclusive, in milliseconds since the epoch; 0 sets no bound. The
// error is an *ExprError.
func ExpressionTimes(src string) (from, to int64, err error) {
	e, err := parseExpr(src)
	if err != nil {
		return 0, 0, err
	}
	from, to = e.times()
	return from, to, nil
}

func (p *exprParser) fail(format string, args ...any) error {
	return &ExprError{p.tok.at, fmt.Sprintf(format, args...)}
}

// here is the present token as it is written.
func (p *exprParser) here() string {
	if p.tok.kind == tokEnd {
		return "the end"
	}
	return strconv.Quote(p.src[p.tok.at:p.pos])
}

func (p *exprParser) or() (*expr, error) {
	if p.depth++; p.depth > maxExprDepth {
		return nil, p.fail("more than %d levels", maxExprDepth)
	}
	defer func() { p.depth-- }()
	return p.row(tokOr, exprOr, func() (*expr, error) { return p.row(tokAnd, exprAnd, p.not) })
}

// row reads one or more parts with sep between them.
func (p *exprParser) row(sep tokenKind, kind exprKind, part func() (*expr, error)) (*expr, error) {
	first, err := part()
	if err != nil || p.tok.kind != sep {
		return first, err
	}
	e := &expr{kind: kind, args: []*expr{first}}
	for p.tok.kind == sep {
		if err := p.next(); err != nil {
			return nil, err
		}
		one, err := part()
		if err != nil {
			return nil, err
		}
		e.args = append(e.args, one)
	}
	return e, nil
}

func (p *exprParser) not() (*expr, error) {
	switch p.tok.kind {
	case tokNot:
		if p.depth++; p.depth > maxExprDepth {
			return nil, p.fail("more than %d levels", maxExprDepth)
		}
		defer func() { p.depth-- }()
		if err := p.next(); err != nil {
			return nil, err
		}
		e, err := p.not()
		if err != nil {
			return nil, err
		}
		return &expr{kind: exprNot, args: []*expr{e}}, nil
	case tokOpen:
		if err := p.next(); err != nil {
			return nil, err
		}
		e, err := p.or()
		if err != nil {
			return nil, err
		}
		if p.tok.kind != tokClose {
			return nil, p.fail(`")" is wanted, not %s`, p.here())
		}
		return e, p.next()
	}
	return p.comparison()
}

func (p *exprParser) comparison() (*expr, error) {
	virtual := p.tok.kind == tokEscape
	if virtual {
		if err := p.next(); err != nil {
			return nil, err
		}
	}
	if p.tok.kind != tokString {
		return nil, p.fail("a field's name is wanted, not %s", p.here())
	}
	e := &expr{kind: exprField, name: p.tok.text}
	if virtual {
		switch e.name {
		case "timestamp":
			e.kind = exprTime
		case "timestamp_ex":
			e.kind, e.hasSerial = exprTime, true
		case "record_type":
			e.kind = exprType
		case "regexp":
			return p.regexp()
		default:
			return nil, p.fail(`there is no field \%s`, e.name)
		}
	}
	if err := p.next(); err != nil {
		return nil, err
	}
	if p.tok.kind != tokOp {
		return nil, p.fail("an operator is wanted (r= r!= i= i!= < <= == > >= !==), not %s", p.here())
	}
	for i, s := range spellings {
		if p.tok.text == s {
			e.op = exprOp(i)
		}
	}
	if e.field, e.named = FieldNamed(e.name); e.kind == exprField && e.op >= opLess && (e.name == "node" || e.name == "type" || e.named && (e.field == FieldArch || e.field == FieldSuccess)) {
		return nil, p.fail("field %q is no number: it can be compared by r= r!= i= i!= only", e.name)
	}
	if err := p.next(); err != nil {
		return nil, err
	}
	return e, p.operand(e)
}

// operand reads what a field is compared with.
func (p *exprParser) operand(e *expr) error {
	switch {
	case e.kind == exprTime && e.op >= opLess:
		return p.time(e)
	case p.tok.kind != tokString:
		return p.fail("a value is wanted, not %s", p.here())
	case e.kind == exprType && e.op >= opLess:
		n, err := strconv.ParseUint(p.tok.text, 10, 32)
		if err != nil {
			named, ok := tables.TypeByName([]byte(p.tok.text))
			if !ok {
				return p.fail("there is no record type %q", p.tok.text)
			}
			n = uint64(named)
		}
		e.typ = uint32(n)
	case e.kind == exprField && e.op >= opLess:
		n, err := strconv.ParseInt(p.tok.text, 10, 64)
		if err != nil || p.tok.text[0] == '+' {
			return p.fail("%q is no whole number, and others are not less or more than one another: %s can be compared with a text by r= r!= i= i!=", p.tok.text, e.name)
		}
		e.number = n
	}
	e.text = p.tok.text
	return p.next()
}

// time reads ts:SECONDS.MILLI[:SERIAL], of which the lexer knows nothing.
func (p *exprParser) time(e *expr) error {
	const want = "a time is wanted: ts:SECONDS.MILLI"
	rest, ok := strings.CutPrefix(p.src[p.tok.at:], "ts:")
	if !ok {
		return p.fail("%s", want)
	}
	number := func(bits int) (uint64, bool) {
		n := 0
		for n < len(rest) && rest[n]-'0' <= 9 {
			n++
		}
		v, err := strconv.ParseUint(rest[:n], 10, bits)
		rest = rest[n:]
		return v, err == nil
	}
	sec, ok := number(40)
	if !ok || !strings.HasPrefix(rest, ".") {
		return p.fail("%s", want)
	}
	rest = rest[1:]
	milli, ok := number(16)
	if !ok || milli > 999 {
		return p.fail("%s", want)
	}
	e.ms = int64(sec)*1000 + int64(milli)
	if e.hasSerial && strings.HasPrefix(rest, ":") {
		rest = rest[1:]
		if e.serial, ok = number(64); !ok {
			return p.fail("%s:SERIAL", want)
		}
	}
	p.pos = len(p.src) - len(rest)
	return p.next()
}

func (p *exprParser) regexp() (*expr, error) {
	if err := p.next(); err != nil {
		return nil, err
	}
	if p.tok.kind != tokString && p.tok.kind != tokRegexp {
		return nil, p.fail("a regular expression is wanted, not %s", p.here())
	}
	re, err := regexp.CompilePOSIX(p.tok.text)
	if err != nil {
		return nil, p.fail("%v", err)
	}
	e := &expr{kind: exprRegexp, text: p.tok.text, re: re}
	return e, p.next()
}
