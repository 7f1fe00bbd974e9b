package pattern

import (
	"fmt"
	"slices"
	"strings"
)

// Doubt is something in a pattern that is taken as it stands and was hardly meant so.
type Doubt struct {
	Says, Do string
}

// Doubts are those of a well-formed pattern: wildcards as other routers write them, and a method that no client sends. A
// segment that is percent-encoded, as in /%2A, is meant as it is.
func Doubts(s string) (doubts []Doubt) {
	method, path, _ := split(s)
	if upper := strings.ToUpper(method); upper != method {
		doubts = append(doubts, Doubt{fmt.Sprintf("methods are upper case: no request with the method %s falls under %s", upper, s), "write " + upper + " " + path})
	}
	segments := strings.Split(path, "/")
	first, one := -1, slices.Clone(segments)
	for i, seg := range segments {
		name, colon := strings.CutPrefix(seg, ":")
		if seg != "*" && seg != "**" && (!colon || name == "") {
			continue
		}
		if first < 0 {
			first = i
		}
		if !isIdentifier(name) || slices.Contains(one[:i], "{"+name+"}") {
			name = "id"
			for n := 2; slices.Contains(one[:i], "{"+name+"}"); n++ {
				name = fmt.Sprintf("id%d", n)
			}
		}
		one[i] = "{" + name + "}"
	}
	if first >= 0 {
		doubts = append(doubts, Doubt{
			fmt.Sprintf("the segment %s of %s stands for itself, and for no other text", segments[first], s),
			"write " + strings.Join(segments[:first], "/") + "/ for all below, or " + strings.Join(one, "/") + " for one segment",
		})
	}
	return doubts
}
