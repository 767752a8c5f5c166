package conf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// PluginType is how a plugin runs.
type PluginType string

// The plugin types of auditd-plugins(5).
const (
	PluginAlways  PluginType = "always"
	PluginBuiltin PluginType = "builtin"
)

// Plugin is a file of plugins.d, auditd-plugins(5).
type Plugin struct {
	Name      string // file name without .conf
	Active    bool
	Direction string // out, or in, which nothing supports
	Path      string // absolute, or the name of a builtin
	Type      PluginType
	Args      []string // at most 2 for the stock daemon; we take more
	Format    Format
}

// DefaultPlugin is what the stock daemon assumes for keys that are not set.
func DefaultPlugin() Plugin {
	return Plugin{Direction: "out", Type: PluginAlways, Format: FormatString}
}

// Schema is the keys of a plugin file, bound to p.
func (p *Plugin) Schema() Schema {
	args := Key{Name: "args", Words: -1, Empty: func() { p.Args = nil }, Set: func(v string) error {
		p.Args = strings.Fields(v)
		return nil
	}}
	return Schema{
		YesNo("active", &p.Active),
		Enum("direction", &p.Direction, "out", "in"),
		Word("path", &p.Path),
		Enum("type", &p.Type, PluginAlways, PluginBuiltin),
		args,
		Enum("format", &p.Format, FormatString, FormatBinary),
	}
}

// LoadPlugin reads one file as LoadLinked does: the stock daemon follows links there,
// too.
func LoadPlugin(path string) (Plugin, *File, error) {
	p := DefaultPlugin()
	p.Name = strings.TrimSuffix(filepath.Base(path), ".conf")
	f, err := LoadLinked(path, p.Schema())
	if f == nil {
		return p, nil, err
	}
	return p, f, p.Validate(f)
}

// Validate checks what concerns several keys and returns all errors of f.
// Whether the program is there is checked only for an active plugin.
func (p *Plugin) Validate(f *File) error {
	switch {
	case p.Path == "":
		f.Errorf("path", "is missing")
	case p.Type == PluginBuiltin:
	case !filepath.IsAbs(p.Path):
		f.Errorf("path", "%q is not an absolute path", clip(p.Path))
	case p.Active:
		if err := Executable(p.Path); err != nil {
			f.Errorf("path", "%v", err)
		}
	}
	return f.Err()
}

// LoadPlugins reads the plugin files of a folder in the order of their names: as
// the stock daemon, every file but hidden ones and those with more than one dot
// in their name, which are backups. A bad file does not hide the good ones: the
// error joins what is wrong.
func LoadPlugins(dir string) ([]Plugin, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("plugins: %w", err)
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name() < entries[j].Name() })
	var plugins []Plugin
	var errs []error
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() || strings.HasPrefix(name, ".") || strings.Count(name, ".") > 1 {
			continue
		}
		p, _, err := LoadPlugin(filepath.Join(dir, name))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		plugins = append(plugins, p)
	}
	return plugins, errors.Join(errs...)
}
