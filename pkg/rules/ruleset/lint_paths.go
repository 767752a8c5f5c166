package ruleset

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/rules"
)

func link(path string) (string, bool) {
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&fs.ModeSymlink == 0 {
		return "", false
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real, true
	}
	// It leads nowhere, or in circles: where it points to is all there is to say.
	to, err := os.Readlink(path)
	if err == nil && !filepath.IsAbs(to) {
		to = filepath.Join(filepath.Dir(path), to)
	}
	return to, err == nil
}

func (l *linter) paths(p Placed) {
	if l.env.Stat == nil {
		return
	}
	for _, f := range p.Rule.Fields {
		if f.Op != rules.Equal {
			continue
		}
		if f.ID == rules.FieldPath || f.ID == rules.FieldDir || f.ID == rules.FieldExe {
			if l.symlink(p, f) {
				continue
			}
		}
		switch f.ID {
		case rules.FieldPath:
			l.watch(p, f.Str)
		case rules.FieldDir:
			l.tree(p, f.Str)
		case rules.FieldExe:
			switch dir := filepath.Dir(f.Str); {
			case !l.absent(f.Str):
			case l.absent(dir):
				l.warn(p, dir+" does not exist: the kernel refuses a rule on a program in it", "take the rule out, or create the folder first")
			default:
				l.warn(p, f.Str+" does not exist: no program can match", "the rule holds from when it is created")
			}
		}
	}
}

// symlink warns of a rule on a symbolic link: the kernel watches the link itself, and a
// program or an open file is never one. Links on the way to a path are followed. It
// reports whether the path is a link.
func (l *linter) symlink(p Placed, f rules.Field) bool {
	if l.env.Link == nil {
		return false
	}
	path := f.Str
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	real, ok := l.env.Link(path)
	if ok {
		what := "what is done to the file it leads to is not seen"
		switch f.ID {
		case rules.FieldDir:
			what = "what is done below the folder it leads to is not seen"
		case rules.FieldExe:
			what = "no program can match"
		}
		l.warn(p, path+" is a symbolic link: "+what, "name the real path: "+real)
	}
	return ok
}

func (l *linter) absent(path string) bool {
	_, err := l.env.Stat(path)
	return err != nil && os.IsNotExist(err)
}

func (l *linter) watch(p Placed, path string) {
	switch dir := filepath.Dir(path); {
	case !l.absent(path):
	case l.absent(dir):
		l.warn(p, dir+" does not exist: the kernel refuses to watch a file in it", "take the rule out, or create the folder first")
	default:
		l.warn(p, path+" does not exist: it is watched from when it is created", "if it never is, the rule does nothing")
	}
}

func (l *linter) tree(p Placed, path string) {
	info, err := l.env.Stat(path)
	switch {
	case err != nil && os.IsNotExist(err):
		l.warn(p, path+" does not exist: the kernel refuses to watch a tree that is not there", "take the rule out, or create the folder first")
	case err == nil && !info.IsDir():
		l.warn(p, path+" is no folder, so dir= watches that one file", "write -F path="+path)
	}
}
