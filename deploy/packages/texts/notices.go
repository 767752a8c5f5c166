package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// licence matches the names of files that have to go with copies of a module.
var licence = regexp.MustCompile(`(?i)^(licen[cs]e|copying|copyright|notice|patents)([-._].*)?$`)

// module is one of those in a binary, and where its sources are.
type module struct {
	Path, Version, Dir, Error string
}

// notices writes what is linked into a binary, and the licences of all of it. Each text
// is there once, behind everything it goes with. A module without one is an error.
func notices(out io.Writer, binary string) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	modules, err := sources(info)
	if err != nil {
		return err
	}
	type text struct {
		of    []string
		bytes []byte
	}
	var texts []*text
	for _, m := range modules {
		files, err := licences(m.Dir)
		if err == nil && len(files) == 0 {
			err = errors.New("its sources have no licence")
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", m.Path, m.Version, err)
		}
		for _, name := range files {
			b, err := os.ReadFile(filepath.Join(m.Dir, name))
			if err != nil {
				return err
			}
			of := fmt.Sprintf("%s %s (%s)", m.Path, m.Version, name)
			if i := slices.IndexFunc(texts, func(t *text) bool { return bytes.Equal(t.bytes, b) }); i >= 0 {
				texts[i].of = append(texts[i].of, of)
				continue
			}
			texts = append(texts, &text{of: []string{of}, bytes: b})
		}
	}
	fmt.Fprintf(out, "What is linked into %s, with its licences. auditfleet itself is under the Apache License 2.0.\n", filepath.Base(binary))
	for _, t := range texts {
		fmt.Fprintf(out, "\n%s\n%s\n%s\n\n%s\n", strings.Repeat("=", 78), strings.Join(t.of, "\n"), strings.Repeat("=", 78), bytes.TrimSpace(t.bytes))
	}
	return nil
}

// sources finds the sources of a binary's modules, and of Go's library.
func sources(info *buildinfo.BuildInfo) ([]module, error) {
	args := []string{"mod", "download", "-json"}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		args = append(args, m.Path+"@"+m.Version)
	}
	out, err := command(args...)
	if err != nil {
		return nil, err
	}
	root, err := command("env", "GOROOT")
	if err != nil {
		return nil, err
	}
	modules := []module{{Path: "Go's standard library", Version: info.GoVersion, Dir: filepath.Clean(strings.TrimSpace(string(root)))}}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var m module
		switch err := d.Decode(&m); {
		case errors.Is(err, io.EOF):
			return modules, nil
		case err != nil:
			return nil, err
		case m.Error != "":
			return nil, errors.New(m.Error)
		}
		modules = append(modules, m)
	}
}

func command(args ...string) ([]byte, error) {
	cmd := exec.Command("go", args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w", strings.Join(args[:2], " "), err)
	}
	return out, nil
}

// licences returns the files of licences below dir, sorted. What lies below Go's own root
// is its commands', but for the licence of the whole.
func licences(dir string) ([]string, error) {
	var names []string
	_, err := os.Stat(filepath.Join(dir, "src", "runtime"))
	isGo := err == nil
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if path != dir && (isGo || slices.Contains([]string{"testdata", "vendor", ".git"}, d.Name())) {
				return fs.SkipDir
			}
			return nil
		}
		if licence.MatchString(d.Name()) && !strings.HasSuffix(d.Name(), ".go") {
			rel, err := filepath.Rel(dir, path)
			names = append(names, rel)
			return err
		}
		return nil
	})
	return names, err
}
