"""The web workbench: Streamlit pages behind a gate, in the process and on the port of the API."""
