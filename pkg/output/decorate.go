package output

import (
	"bytes"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// decorated is a Formatter that adds to the lines of another Formatter: the host between
// events, and colour. It does not change the text, except that it replaces what would
// control a terminal: a terminal that receives our colours would execute other escape
// sequences as well.
type decorated struct {
	Formatter
	host, color bool
	bare        bool // the text goes out as it is, also where it is coloured
	hit         bool // of --around
	text, clean []byte
}

// decorate adds what o asks for to the formats that are for people.
func decorate(o *Config, f Formatter) Formatter {
	if o.Format != FormatDefault && o.Format != FormatInterpret || !o.Color && !o.WithHost {
		return f
	}
	return &decorated{Formatter: f, host: o.WithHost, color: o.Color, bare: o.Bare}
}

// Marker is a Writer that distinguishes hits from the events around them (--around).
type Marker interface {
	// Mark says whether the events that follow are hits.
	Mark(hit bool)
}

// Mark implements Marker.
func (d *decorated) Mark(hit bool) { d.hit = hit }

// Mark implements Marker.
func (w *formatWriter) Mark(hit bool) {
	if m, ok := w.format.(Marker); ok {
		m.Mark(hit)
	}
}

const (
	styleReset = "\x1b[0m"
	styleFaint = "\x1b[2m"
	styleBold  = "\x1b[1m"
	styleTime  = "\x1b[36m"
	styleName  = "\x1b[34m"
	styleBad   = "\x1b[31m"
	styleGood  = "\x1b[32m"
	styleHit   = "\x1b[1;33m"
)

var separator = []byte("----\n")

func (d *decorated) Append(dst []byte, ev *event.Event) []byte {
	d.text = d.Formatter.Append(d.text[:0], ev)
	rest, ok := bytes.CutPrefix(d.text, separator)
	if !ok {
		return append(dst, d.text...)
	}
	line := []byte("----")
	if d.host && len(ev.Node) > 0 {
		line = terminal.AppendClean(append(line, " node="...), ev.Node)
	}
	switch {
	case !d.color:
		return append(append(append(dst, line...), '\n'), rest...)
	case d.hit:
		dst = styled(dst, styleHit, line)
	default:
		dst = styled(dst, styleFaint, line)
	}
	dst = append(dst, '\n')
	for len(rest) > 0 {
		var one []byte
		one, rest, _ = bytes.Cut(rest, []byte{'\n'})
		if !d.bare {
			d.clean = terminal.AppendClean(d.clean[:0], one)
			one = d.clean
		}
		dst = append(colored(dst, one), '\n')
	}
	return dst
}

func styled(dst []byte, style string, text []byte) []byte {
	return append(append(append(dst, style...), text...), styleReset...)
}

// colored appends a line with its time and its names in colour, and values that
// tell how it went.
func colored(dst, line []byte) []byte {
	if bytes.HasPrefix(line, []byte("time->")) {
		return styled(dst, styleTime, line)
	}
	for len(line) > 0 {
		var word []byte
		i := bytes.IndexByte(line, ' ')
		if i < 0 {
			i = len(line)
		}
		word, line = line[:i], line[i:]
		name, value, ok := bytes.Cut(word, []byte{'='})
		switch {
		case !ok || len(name) == 0 || len(value) == 0:
			dst = append(dst, word...)
		default:
			dst = append(append(append(append(dst, styleName...), name...), '='), styleReset...)
			style := styleOf(name, value)
			if n := restOf(name, value, line); n > 0 { // line begins where value ends
				value, line = value[:len(value)+n], line[n:]
			}
			if style != "" {
				dst = styled(dst, style, value)
			} else {
				dst = append(dst, value...)
			}
		}
		n := 0
		for n < len(line) && line[n] == ' ' {
			n++
		}
		dst, line = append(dst, line[:n]...), line[n:]
	}
	return dst
}

// restOf returns how much of rest, what stands behind the first word of a value, is of the
// value, too. A date and time end at their ")", whatever the locale puts between them; a
// key of -i ends before the next field.
func restOf(name, value, rest []byte) int {
	switch string(name) {
	case "msg":
		if bytes.HasPrefix(value, []byte("audit(")) && bytes.IndexByte(value, ')') < 0 {
			return bytes.IndexByte(rest, ')') + 1
		}
	case "key":
		if value[0] == '"' {
			return 0
		}
		end := len(bytes.TrimRight(rest, " "))
		if eq := bytes.IndexByte(rest, '='); eq >= 0 {
			end = len(bytes.TrimRight(rest[:bytes.LastIndexByte(rest[:eq], ' ')+1], " "))
		}
		return end
	}
	return 0
}

func styleOf(name, value []byte) string {
	switch string(name) {
	case "type":
		return styleBold
	case "msg":
		if bytes.HasPrefix(value, []byte("audit(")) {
			return styleTime
		}
	case "success", "res", "result":
		switch string(bytes.TrimRight(value, "'")) {
		case "no", "failed", "fail", "0":
			return styleBad
		case "yes", "success", "1":
			return styleGood
		}
	case "key":
		return styleHit
	}
	return ""
}
