package rewrite

import (
	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// division is what goes into one file: the events of a day, or those of them that are of one class.
type division struct {
	day   store.Day
	class int
	name  string
	// groups says which groups may have events of the class; nil: they are not divided.
	groups []bool
}

func (d *division) in(i int) bool { return d.groups == nil || d.groups[i] }

// divide returns the files that are to be written: of each day one, or one of each class that the groups may have events
// of. Each file is written by reading all groups that may have some of it, so each class costs as much again.
func (j *Job) divide(d *days, groups []Group, list []store.Day) (files []division, err error) {
	if len(j.Classes) == 0 {
		for _, day := range list {
			files = append(files, division{day: day, name: j.Mark.Class})
		}
		return files, nil
	}
	rest := len(j.Classes)
	may := make([][]bool, rest+1) // by class and group
	for c := range may {
		may[c] = make([]bool, len(groups))
	}
	for i := range groups {
		g, err := j.Codec.Open(groups[i].Bytes)
		if err != nil {
			return nil, err
		}
		for c, class := range j.Classes {
			if may[c][i], err = g.MayHaveClass(class); err != nil {
				return nil, err
			}
		}
		may[rest][i] = true
	}
	for _, day := range list {
		files = append(files, division{day: day, class: rest, name: j.Classes.Rest(), groups: may[rest]})
		for c := range j.Classes {
			for i := range groups {
				if may[c][i] && d.groups[i][day] {
					files = append(files, division{day: day, class: c, name: j.Classes.Name(c), groups: may[c]})
					break
				}
			}
		}
	}
	return files, nil
}
