"""How features are built, keyed, checked and handed out; `stores/` says where they live."""
