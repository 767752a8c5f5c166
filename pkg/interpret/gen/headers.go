package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// headers reads C headers, well enough for lists of constants: #define NAME
// EXPRESSION and enumerators. Conditions are not looked at.
type headers struct{ root, arch string }

type definition struct{ name, expr, enum string }

var (
	comments   = regexp.MustCompile(`(?s)/\*.*?\*/|//[^\n]*`)
	defines    = regexp.MustCompile(`(?m)^[ \t]*#[ \t]*define[ \t]+([A-Za-z_]\w*)[ \t]+(\S.*?)[ \t]*$`)
	directives = regexp.MustCompile(`(?m)^[ \t]*#.*$`)
	enums      = regexp.MustCompile(`(?s)enum\s*(\w*)[^{};]*\{([^{}]*)\}`)
)

// parse returns file's constants in its order.
func (h *headers) parse(file string) ([]definition, error) {
	b, err := os.ReadFile(filepath.Join(h.root, h.arch, file))
	if errors.Is(err, os.ErrNotExist) {
		b, err = os.ReadFile(filepath.Join(h.root, file))
	}
	if err != nil {
		return nil, fmt.Errorf("read header: %w", err)
	}
	text := comments.ReplaceAllString(string(b), " ")
	text = strings.ReplaceAll(text, "\\\n", " ")
	var defs []definition
	for _, e := range enums.FindAllStringSubmatch(directives.ReplaceAllString(text, ""), -1) {
		defs = append(defs, enumerators(e[1], e[2])...)
	}
	for _, m := range defines.FindAllStringSubmatch(text, -1) {
		defs = append(defs, definition{name: m[1], expr: m[2]})
	}
	return defs, nil
}

func enumerators(enum, body string) []definition {
	var defs []definition
	prev := ""
	for _, item := range strings.Split(body, ",") {
		name, expr, given := strings.Cut(strings.TrimSpace(item), "=")
		name = strings.TrimSpace(name)
		if name == "" {
			continue
		}
		switch {
		case given:
			expr = strings.TrimSpace(expr)
		case prev == "":
			expr = "0"
		default:
			expr = "(" + prev + ")+1"
		}
		prev = expr
		defs = append(defs, definition{name, expr, enum})
	}
	return defs
}

var (
	number  = regexp.MustCompile(`^(0[xX][0-9a-fA-F]+|[0-9]+)[uUlL]*$`)
	ident   = regexp.MustCompile(`^[A-Za-z_]\w*$`)
	ioMacro = regexp.MustCompile(`^_IO([RW]*)\s*\(\s*'?(.)'?\s*,\s*(\w+)\s*(?:,\s*(\w+(?: \w+)*)\s*)?\)$`)
)

// evaluate returns the value of a C expression of numbers, names, + | << and
// parentheses, and of _IO…(); false for any other.
func evaluate(expr string, values map[string]string, depth int) (uint64, bool) {
	expr = strings.TrimSpace(expr)
	if depth > 2000 {
		return 0, false
	}
	depth++
	if m := ioMacro.FindStringSubmatch(expr); m != nil {
		return ioctl(m)
	}
	for strings.HasPrefix(expr, "(") && closing(expr) == len(expr)-1 {
		expr = strings.TrimSpace(expr[1 : len(expr)-1])
	}
	for _, op := range []string{"|", "<<", "+"} {
		if i := topLevel(expr, op); i >= 0 {
			a, ok1 := evaluate(expr[:i], values, depth)
			b, ok2 := evaluate(expr[i+len(op):], values, depth)
			if !ok1 || !ok2 {
				return 0, false
			}
			switch op {
			case "|":
				return a | b, true
			case "<<":
				return a << b, true
			}
			return a + b, true
		}
	}
	if m := number.FindStringSubmatch(expr); m != nil {
		v, err := strconv.ParseUint(m[1], 0, 64)
		return v, err == nil
	}
	if ident.MatchString(expr) {
		if e, ok := values[expr]; ok {
			return evaluate(e, values, depth)
		}
	}
	return 0, false
}

// ioctl is asm-generic's layout of a request.
func ioctl(m []string) (uint64, bool) {
	nr, err := strconv.ParseUint(m[3], 0, 8)
	if err != nil {
		return 0, false
	}
	size := map[string]uint64{"": 0, "int": 4, "unsigned int": 4, "unsigned char": 1}[m[4]]
	dir := uint64(0)
	if strings.Contains(m[1], "W") {
		dir |= 1
	}
	if strings.Contains(m[1], "R") {
		dir |= 2
	}
	return dir<<30 | size<<16 | uint64(m[2][0])<<8 | nr, true
}

// closing returns where the parenthesis that opens s ends.
func closing(s string) int {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

// topLevel returns where the last op outside of parentheses is.
func topLevel(s, op string) int {
	depth, at := 0, -1
	for i := range len(s) {
		switch {
		case s[i] == '(':
			depth++
		case s[i] == ')':
			depth--
		case depth == 0 && i > 0 && strings.HasPrefix(s[i:], op):
			at = i
		}
	}
	return at
}
