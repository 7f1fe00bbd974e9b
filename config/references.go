package config

import "reflect"

// Reference is a file that a value names.
type Reference struct {
	// Path is the value's place: issuers[0].client.secret_file.
	Path string
	// Key is the same without the indices: issuers.client.secret_file. It is from a fixed set.
	Key string
	// File is the file's name, as configured.
	File string

	purpose string // what must be in it
}

// References lists the files that the configuration names, so that a change to one can be noticed.
func (l *Loaded) References() []Reference { return references(l.Config) }

func references(c *Config) []Reference {
	var all []Reference
	referencesOf(reflect.ValueOf(c).Elem(), "", "", &all)
	return all
}

func referencesOf(value reflect.Value, path, key string, all *[]Reference) {
	for _, f := range fieldsOf(value.Type()) {
		target, fieldPath, fieldKey := value.Field(f.index), keyPath(path, f.key), keyPath(key, f.key)
		if target.Kind() == reflect.Pointer {
			if target.IsNil() {
				continue
			}
			target = target.Elem()
		}
		switch {
		case f.shape == section:
			referencesOf(target, fieldPath, fieldKey, all)
		case f.shape == things:
			for i := range target.Len() {
				referencesOf(target.Index(i), elementPath(fieldPath, i), fieldKey, all)
			}
		case f.file != "" && target.String() != "":
			*all = append(*all, Reference{fieldPath, fieldKey, target.String(), f.file})
		}
	}
}
