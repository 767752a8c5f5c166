package integration

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/golden"
	"github.com/auditfleet/auditfleet/internal/need"
)

// step is a command of README.md, and what it prints there.
type step struct{ command, want string }

// tour returns the commands of README.md's demo part, and the text between their outputs: step i stands
// between texts i and i+1.
func tour(t *testing.T, readme string) (steps []step, texts []string) {
	t.Helper()
	begin, end := strings.Index(readme, "<!-- BEGIN demo"), strings.Index(readme, "<!-- END demo -->")
	if begin < 0 || end < begin {
		t.Fatal("README.md has no part between BEGIN demo and END demo")
	}
	text := readme[:begin]
	inside := false
	for line := range strings.Lines(readme[begin:end]) {
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```console\n"
			text += line
		case inside && strings.HasPrefix(line, "$ "):
			texts = append(texts, text+line)
			text = ""
			steps = append(steps, step{command: strings.TrimSpace(line[2:])})
		case inside:
			if len(steps) == 0 {
				t.Fatalf("output without a command: %s", line)
			}
			steps[len(steps)-1].want += line
		default:
			text += line
		}
	}
	return steps, append(texts, text+readme[end:])
}

// matches reports whether an output is what README.md shows, where … stands for anything in a line, and
// a line of it alone for any lines.
func matches(want, got string) bool {
	var b strings.Builder
	b.WriteString(`\A`)
	for line := range strings.Lines(trimLines(want)) {
		if line == "…\n" {
			b.WriteString(`(?:.*\n)*?`)
			continue
		}
		b.WriteString(strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*"))
	}
	return regexp.MustCompile(b.String() + `\z`).MatchString(trimLines(got))
}

// trimLines takes the blanks from the ends of lines, which a page does not keep.
func trimLines(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		b.WriteString(strings.TrimRight(line, " \n"))
		b.WriteByte('\n')
	}
	return b.String()
}

// TestReadme types the tour and the questions of README.md as they stand, in a folder where make demo
// is what it is in a clone, and compares what is printed. With -update, README.md gets what was printed where it is another.
func TestReadme(t *testing.T) {
	t.Parallel()
	bins := binaries(t)
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"collector": bins.Collector, "forwarder": bins.Forwarder} {
		if err := os.Symlink(path, filepath.Join(dir, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	const target = "\n\t$(TIDY) $(GO) run ./integration/cmd/demo -bin '$(BIN)' -dir '$(DEMO)'\n"
	makefile, err := os.ReadFile(need.Source(t, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(makefile), target) {
		t.Errorf("make demo is no longer %q: mend this test", target)
	}
	demo := filepath.Join(dir, "make-demo")
	if out, err := exec.Command("go", "build", "-o", demo, "github.com/auditfleet/auditfleet/integration/cmd/demo").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	page := need.Source(t, "README.md")
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	steps, texts := tour(t, string(text))
	outputs := typed(t, dir, "make() { "+demo+` -bin bin -dir "$1"; }`, steps)
	var updated strings.Builder
	for i, s := range steps {
		updated.WriteString(texts[i])
		if ok := matches(s.want, outputs[i]); !ok && golden.Update() {
			updated.WriteString(trimLines(outputs[i]))
			continue
		} else if !ok {
			t.Errorf("$ %s\nREADME.md has:\n%sit prints:\n%s", s.command, s.want, outputs[i])
		}
		updated.WriteString(s.want)
	}
	if updated.WriteString(texts[len(steps)]); golden.Update() {
		if err := os.WriteFile(page, []byte(updated.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// typed runs commands in one shell, and returns what each prints.
func typed(t *testing.T, dir, first string, steps []step) []string {
	t.Helper()
	const mark = "@@ step "
	script := first + "\n"
	for i, s := range steps {
		script += fmt.Sprintf("%s\n{ echo; echo '%s%d'; } 2>/dev/null\n", s.command, mark, i)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", ""+script)
	var out bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
	// What it leaves running ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out.Bytes())
	}
	var outputs []string
	rest := out.String()
	for i := range steps {
		printed, after, ok := strings.Cut(rest, "\n"+mark+strconv.Itoa(i)+"\n")
		if !ok {
			t.Fatalf("%s: no end in\n%s", steps[i].command, rest)
		}
		outputs, rest = append(outputs, printed), after
	}
	return outputs
}

// TestLinks follows every link of the pages to a file of this repository, and to a heading in one.
func TestLinks(t *testing.T) {
	root := repoRoot(t)
	pages, err := filepath.Glob(filepath.Join(root, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, page := range append(pages, more...) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			to, heading, _ := strings.Cut(m[1], "#")
			if strings.Contains(to, "://") {
				continue
			}
			target := page
			if to != "" {
				target = filepath.Join(filepath.Dir(page), to)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %s: %v", filepath.Base(page), m[1], err)
			} else if heading != "" && !hasHeading(t, target, heading) {
				t.Errorf("%s: %s: no such heading", filepath.Base(page), m[1])
			}
		}
	}
}

func hasHeading(t *testing.T, page, anchor string) bool {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if title := strings.TrimLeft(line, "#"); title != line {
			title = regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), "")
			if strings.ReplaceAll(title, " ", "-") == anchor {
				return true
			}
		}
	}
	return false
}
