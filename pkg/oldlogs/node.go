package oldlogs

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// nodeWord stands for the host in a Pattern.
const nodeWord = "{node}"

// maxNode is the longest name of a host that is taken from a path.
const maxNode = 255

// ErrPattern is returned for a text that is no Pattern.
var ErrPattern = errors.New("not a pattern of paths")

// Pattern tells the host of a log by the log's path. The zero value knows none.
type Pattern struct {
	re       *regexp.Regexp
	absolute bool
}

// ParsePattern reads a path in which {node} stands for the host, such as
// /logs/{node}/audit/*: * is any text without a slash, ** any text, and ? any character but a slash. A pattern that does
// not begin with a slash is the end of a path.
func ParsePattern(text string) (Pattern, error) {
	if strings.Count(text, nodeWord) != 1 {
		return Pattern{}, fmt.Errorf("%w: %q: it must have %s once, as in /logs/%s/audit/*", ErrPattern, text, nodeWord, nodeWord)
	}
	var re strings.Builder
	re.WriteString("^")
	absolute := strings.HasPrefix(text, "/")
	if !absolute {
		re.WriteString("(?:.*/)?")
	}
	for rest := text; rest != ""; {
		n := 1
		switch {
		case strings.HasPrefix(rest, nodeWord):
			re.WriteString("([^/]+)")
			n = len(nodeWord)
		case strings.HasPrefix(rest, "**"):
			re.WriteString(".*")
			n = 2
		case rest[0] == '*':
			re.WriteString("[^/]*")
		case rest[0] == '?':
			re.WriteString("[^/]")
		default:
			if n = strings.IndexAny(rest, "*?{"); n < 0 {
				n = len(rest)
			}
			n = max(n, 1) // a brace that is no {node}
			re.WriteString(regexp.QuoteMeta(rest[:n]))
		}
		rest = rest[n:]
	}
	re.WriteString("$")
	compiled, err := regexp.Compile(re.String())
	if err != nil {
		return Pattern{}, fmt.Errorf("%w: %q: %w", ErrPattern, text, err)
	}
	return Pattern{compiled, absolute}, nil
}

// Node returns the host of the log at path; false where the path does not match, or has
// what is no name of a host in that place.
func (p Pattern) Node(path string) (node string, ok bool) {
	if p.re == nil {
		return "", false
	}
	if p.absolute {
		abs, err := filepath.Abs(path)
		if err != nil {
			return "", false
		}
		path = abs
	}
	found := p.re.FindStringSubmatch(filepath.Clean(path))
	if found == nil || !goodNode(found[1]) {
		return "", false
	}
	return found[1], true
}

// goodNode reports whether a node= may have that name: no byte of it ends the word.
func goodNode(name string) bool {
	bad := func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\ufffd' }
	return name != "" && len(name) <= maxNode && !strings.ContainsFunc(name, bad)
}
