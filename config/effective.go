package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Setting is one effective value, ready to be shown: secrets are redacted.
type Setting struct {
	// Path is the value's place: outbound.routes[0].upstream.
	Path string `json:"path"`
	// Value is a string, a number, a bool or a []string.
	Value any `json:"value"`
	// Origin says where it came from: default, file sidepass.yaml:12, or a variable's name.
	Origin string `json:"origin"`
}

// Effective is every effective value in the order of the reference, but for those of a
// direction that is not run, and restrictions that are not there.
type Effective []Setting

// Effective lists the values of a loaded configuration.
func (l *Loaded) Effective() Effective {
	var all Effective
	l.settings(reflect.ValueOf(l.Config).Elem(), "", &all)
	return all
}

func (l *Loaded) settings(v reflect.Value, path string, all *Effective) {
	for _, f := range fieldsOf(v.Type()) {
		value, fieldPath := v.Field(f.index), keyPath(path, f.key)
		if value.Kind() == reflect.Pointer {
			if value.IsNil() {
				continue
			}
			value = value.Elem()
		}
		switch f.shape {
		case section:
			l.settings(value, fieldPath, all)
		case things:
			for i := range value.Len() {
				l.settings(value.Index(i), elementPath(fieldPath, i), all)
			}
		default:
			if f.guard && value.IsNil() {
				continue
			}
			*all = append(*all, Setting{fieldPath, printable(value), l.Origin(fieldPath).String()})
		}
	}
}

// printable turns a typed value into what JSON and a reader can do with.
func printable(v reflect.Value) any {
	if v.Kind() == reflect.Slice {
		texts := make([]string, v.Len())
		for i := range texts {
			texts[i] = fmt.Sprint(v.Index(i).Interface())
		}
		return texts
	}
	switch value := v.Interface().(type) {
	case string, bool, int, float64:
		return value
	case time.Duration:
		return formatDuration(value)
	default:
		return fmt.Sprint(value)
	}
}

// String renders the values as YAML, each line with its origin as a comment.
func (e Effective) String() string {
	type line struct{ text, comment string }
	var lines []line
	var open []string // the path of the section that the last line was in
	for _, s := range e {
		steps := strings.Split(s.Path, ".")
		last := len(steps) - 1
		common := 0
		for common < last && common < len(open) && steps[common] == open[common] {
			common++
		}
		indent, dash := "", ""
		for i, step := range steps {
			key, index, isEntry := strings.Cut(step, "[")
			if i >= common && i < last {
				// The key of a list stands above its first entry only.
				if !isEntry || index == "0]" {
					lines = append(lines, line{text: indent + dash + key + ":"})
					dash = ""
				}
				if isEntry {
					dash = "- "
				}
			} else if i == last {
				lines = append(lines, line{indent + dash + key + ": " + yamlText(s.Value), s.Origin})
			}
			indent += "  "
			if isEntry {
				indent += "  "
			}
			if dash != "" {
				indent = indent[:len(indent)-len(dash)]
			}
		}
		open = steps[:last]
	}
	width := 0
	for _, l := range lines {
		if n := len([]rune(l.text)); n <= 60 {
			width = max(width, n)
		}
	}
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.text)
		if l.comment != "" {
			b.WriteString(strings.Repeat(" ", max(width-len([]rune(l.text)), 0)) + "  # " + l.comment)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// yamlText writes a value on one line. A JSON string is a YAML string too.
func yamlText(value any) string {
	switch v := value.(type) {
	case string:
		return yamlString(v)
	case []string:
		texts := make([]string, len(v))
		for i := range v {
			texts[i] = yamlString(v[i])
		}
		return "[" + strings.Join(texts, ", ") + "]"
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	return fmt.Sprint(value)
}

func yamlString(text string) string {
	plain := text != ""
	for i := range len(text) {
		c := text[i]
		safe := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '/' || c == '.' || c == '_'
		plain = plain && (safe || i > 0 && (c == '-' || c == '+' || c == ':' && i+1 < len(text)))
	}
	switch strings.ToLower(text) {
	case "null", "true", "false", "yes", "no", "on":
		plain = false
	}
	if plain {
		return text
	}
	quoted, _ := json.Marshal(text) // a string always can be
	return string(quoted)
}
